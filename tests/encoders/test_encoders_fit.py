"""A model whose files do not fit each other is refused by a sentence, and text is written as it was in training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from helpers.tiny_checkpoints import LIMIT, TEXTS, write_clip, write_siglip, write_siglip2
from linkage_core.encoders import bert, fit
from linkage_core.encoders.clip import ClipEncoder
from linkage_core.encoders.hub import resolve
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import ModelError

PREPROCESSOR, TOKENIZER = "preprocessor_config.json", "tokenizer_config.json"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(folder: Path) -> Any:
    return load_encoder(f"hf:{folder}", store_root=folder, device="cpu")


def settings(folder: Path, file: str, **changed: Any) -> None:
    """The settings in a file, changed; None takes one out."""
    said = json.loads((folder / file).read_text()) | changed
    (folder / file).write_text(json.dumps({key: value for key, value in said.items() if value is not None}))


def without(*files: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def larger_pictures(folder: Path) -> None:
    settings(folder, PREPROCESSOR, size=64, crop_size=64)


def pictures_of_any_size(folder: Path) -> None:
    settings(folder, PREPROCESSOR, do_center_crop=False)


def one_channel(folder: Path) -> None:
    settings(folder, PREPROCESSOR, image_mean=[0.5, 0.5])


def not_rescaled(folder: Path) -> None:
    settings(folder, PREPROCESSOR, do_rescale=False)


def rescaled_twice(folder: Path) -> None:
    settings(folder, PREPROCESSOR, rescale_factor=1 / 255**2)


def half_the_merges(folder: Path) -> None:
    lines = (folder / "merges.txt").read_text().splitlines()
    (folder / "merges.txt").write_text("\n".join(lines[: len(lines) // 2]))


def added_tokens(folder: Path) -> None:
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    words.add_tokens(["angle", "blunting"])
    words.save_pretrained(folder)


def few_words(folder: Path) -> None:
    ids = json.loads((folder / "vocab.json").read_text())
    kept = dict(list(ids.items())[:100])
    (folder / "vocab.json").write_text(json.dumps(kept | {name: ids[name] for name in list(ids)[-2:]}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def end_nowhere(folder: Path) -> None:
    """The model looks for the end of a text at a token that its tokenizer never writes: it then reads the beginning."""
    said = json.loads((folder / "config.json").read_text())
    said["text_config"]["eos_token_id"] = 7
    (folder / "config.json").write_text(json.dumps(said))


def of_another_end(folder: Path) -> None:
    settings(folder, TOKENIZER, tokenizer_class="SiglipTokenizer", eos_token="<pad>")


def of_no_family(folder: Path) -> None:
    settings(folder, TOKENIZER, tokenizer_class="BertTokenizer")


@pytest.mark.parametrize(
    ("write", "change", "named"),
    [
        (write_clip, without("vocab.json", "merges.txt"), r"no tokenizer: there is no tokenizer\.json"),
        (write_clip, without("merges.txt"), r"no merges\.txt beside vocab\.json"),
        (write_siglip, without("tokenizer.json"), r"no tokenizer: there is no tokenizer\.json"),
        (write_siglip2, without("tokenizer.json"), r"no tokenizer: there is no tokenizer\.json"),
        (write_clip, larger_pictures, r"preprocessor_config\.json.*64 x 64 pixels, the model takes 32 x 32"),
        (write_clip, pictures_of_any_size, r"preprocessor_config\.json.* the model takes 32 x 32"),
        (write_clip, one_channel, r"preprocessor_config\.json says that image_mean is"),
        (write_clip, not_rescaled, r"makes values from -[\d.]+ to \d+ of black and white"),
        (write_siglip, rescaled_twice, r"makes values from -1 to -0\.99\d of black and white"),
        (write_clip, half_the_merges, r"merges\.txt in .* has \d+ merges for a vocabulary of \d+ tokens"),
        (write_clip, added_tokens, r"of \d+ rows has no row for, 2 of \d+, the first 'angle'"),
        (write_clip, few_words, r"102 tokens, the model's embedding \d+ rows"),
        (write_clip, end_nowhere, r"2 texts that differ all have one vector"),
        (write_siglip2, of_another_end, r"SiglipTokenizer and the end mark '<pad>', which do not tell"),
        (write_siglip, of_no_family, r"names the class BertTokenizer"),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, write: Callable[[Path], Path], change: Callable[[Path], None], named: str
) -> None:
    folder = write(tmp_path / "model")
    change(folder)
    with pytest.raises(ModelError, match=named) as caught:
        load(folder)
    assert str(folder) in caught.value.what + caught.value.remedy
    assert caught.value.remedy.endswith(".")


def test_reports_that_all_have_one_vector_are_refused_while_they_are_embedded(tmp_path: Path) -> None:
    """What is right when it is loaded may go wrong on the reports themselves."""
    encoder = ClipEncoder("x", resolve(str(write_clip(tmp_path / "model"))))
    assert len(np.unique(encoder.text_features(TEXTS), axis=0)) == len(TEXTS)
    encoder._written = lambda texts: ["the same"] * len(texts)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="3 texts that differ all have one vector"):
        encoder.text_features(TEXTS)
    assert len(encoder.text_features(["Clear.", "clear!"])) == 2, "texts that hardly differ may share a vector"
    assert len(encoder.text_features(["a" * 90 + "x", "a" * 90 + "y"])) == 2, "and those that differ late"


def test_words_that_the_tokenizer_does_not_know_are_refused(tmp_path: Path) -> None:
    encoder = load(write_siglip(tmp_path / "model"))
    assert len(encoder.text_features(["übergröße ohne befund", "clear"])) == 2
    with pytest.raises(ModelError, match=r"\d+% of the tokens are the one for unknown words"):
        encoder.text_features(["легкие без очаговых изменений сердце", "тень средостения не расширена"])


def test_an_embedding_may_be_larger_than_its_vocabulary_but_not_of_another_size() -> None:
    class Words:
        def __init__(self, n: int) -> None:
            self.n = n

        def get_vocab(self) -> dict[str, int]:
            return {f"w{i}": i for i in range(self.n)}

    fit.check_vocabulary("m", Path("f"), Words(50_257), 50_304)
    fit.check_vocabulary("m", Path("f"), Words(256_000), 262_144)
    fit.check_vocabulary("m", Path("f"), Words(30), 64, least=1 / 3)
    for n, rows in ((4, 49_408), (30_523, 30_522), (20_000, 30_522)):
        with pytest.raises(ModelError, match=f"{rows:,} rows"):
            fit.check_vocabulary("m", Path("f"), Words(n), rows)
    assert bert.embedding_rows(bert.bert_model(bert.bert_config({"vocab_size": 9, "hidden_size": 12}))) == 9


# ---------------------------------------------------------------------------------------------- as it was in training


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"tokenizer_class": "Siglip2Tokenizer"},
        {"tokenizer_class": "PreTrainedTokenizerFast"},
        {"tokenizer_class": None},
        {"padding_side": "left"},
    ],
)
def test_siglip_2_reads_lower_case_ended_and_filled_up_on_the_right(tmp_path: Path, said: dict[str, Any]) -> None:
    """The oracle is the piece table itself, given lower case."""
    folder = write_siglip2(tmp_path / "model")
    settings(folder, TOKENIZER, **said)
    text = "No ACUTE process!"
    pieces = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text.lower()).ids
    encoder = load(folder)
    assert encoder._tokens([text])["input_ids"][0].tolist() == pieces + [0] * (LIMIT - len(pieces))
    assert encoder.describe()["preprocessing"]["text"] == "lower case, as SigLIP 2 was trained"
    rows = encoder.text_features([text, text.lower(), text.replace("!", "")])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    assert np.abs(rows[0] - rows[2]).max() > 1e-3, "punctuation stays"


def test_the_manifest_says_how_text_was_written(tmp_path: Path) -> None:
    siglip = load(write_siglip(tmp_path / "one")).describe()["preprocessing"]["text"]
    assert siglip == "lower case, no punctuation, single spaces, as SigLIP was trained"
    assert "lower case" in load(write_clip(tmp_path / "two")).describe()["preprocessing"]["text"]


# ------------------------------------------------------------------------------------------------- of another package


@pytest.mark.parametrize(
    ("rows", "pixels", "named"),
    [(40, 32, None), (30, 32, "has no row for, 6 of 36"), (400, 32, "36 tokens"), (40, 24, "takes 24 x 24")],
)
def test_open_clips_models_are_looked_at_alike(rows: int, pixels: int, named: str | None) -> None:
    """Without the package: what its models and tokenizers offer, made by hand."""
    from linkage_core.encoders.openclip import OpenClipEncoder

    encoder = OpenClipEncoder.__new__(OpenClipEncoder)
    words = SimpleNamespace(get_vocab=lambda: {f"w{i}": i for i in range(36)})
    encoder._tokenizer = SimpleNamespace(tokenizer=words)
    text = SimpleNamespace(token_embedding=torch.nn.Embedding(rows, 2))
    encoder._model = SimpleNamespace(text=text, visual=SimpleNamespace(image_size=(pixels, pixels)))
    encoder._settings = {"size": 32}
    local: Any = SimpleNamespace(folder=Path("there"))
    if named is None:
        encoder._check_sizes("m", local)
        return
    with pytest.raises(ModelError, match=named):
        encoder._check_sizes("m", local)
