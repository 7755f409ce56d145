"""Model folders made to hurt: each is one sentence before anything is built, and none is loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.tiny_checkpoints import write_clip
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import ModelError

DEEP = "[" * 100_000 + "]" * 100_000
ODD: tuple[Any, ...] = (0, -1, 1.5, "x", [], {}, True, 10**12)
SIZES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")


def changed(file: str, *place: str, to: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        at = content
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = to
        (folder / file).write_text(json.dumps(content))

    return change


def written(file: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda folder: (
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode()) and None
    )


def pipe(file: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        os.mkfifo(folder / file)

    return change


def folders() -> dict[str, Callable[[Path], None]]:
    found: dict[str, Callable[[Path], None]] = {}
    for tower, keys in (
        ("text_config", (*SIZES, "vocab_size")),
        ("vision_config", (*SIZES, "patch_size", "image_size")),
    ):
        for key in keys:
            for value in ODD if key in ("hidden_size", "patch_size") else (0, "x", 10**12):
                found[f"{tower} {key} {value}"] = changed("config.json", tower, key, to=value)
        for value in (1, "x", []):
            found[f"{tower} {value}"] = changed("config.json", tower, to=value)
    found["quantized"] = changed("config.json", "quantization_config", to={"quant_method": "bitsandbytes"})
    found["code"] = changed("config.json", "auto_map", to={"AutoModel": "evil.Model"})
    for key in ("attn_implementation", "_attn_implementation"):
        for place in ((), ("text_config",)):
            found[f"{place} {key}"] = changed("config.json", *place, key, to="kernels-community/other")
        found[f"{key} by name"] = changed("config.json", key, to={"text_config": "kernels-community/other"})
    found["no such act"] = changed("config.json", "text_config", "hidden_act", to="os.system")
    found["projection"] = changed("config.json", "projection_dim", to=0)
    for file in ("config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json"):
        for content in (DEEP, "[1]", '"x"', "{", b"\xff\xfe"):
            found[f"{file} {content[:3]!r}"] = written(file, content)
        found[f"{file} pipe"] = pipe(file)
    for value in ("x", -1, 0, [], {"a": 1}):
        found[f"longest {value}"] = changed("tokenizer_config.json", "model_max_length", to=value)
    found["class"] = changed("tokenizer_config.json", "tokenizer_class", to=["a"])
    found["mark"] = changed("tokenizer_config.json", "eos_token", to=7)
    found["mark of another kind"] = changed("tokenizer_config.json", "eos_token", to={"x": 1})
    for value in (0, -3, "x", {"height": 0, "width": 3}, 10**9):
        found[f"size {value}"] = changed("preprocessor_config.json", "size", to=value)
    found["resample"] = changed("preprocessor_config.json", "resample", to=99)
    found["mean"] = changed("preprocessor_config.json", "image_mean", to=["a"])
    found["deviation"] = changed("preprocessor_config.json", "image_std", to=[0, 1, 1])
    found["places"] = written("vocab.json", json.dumps({"a": "b"}))
    found["merges"] = written("merges.txt", b"\xff\xfe\x00")
    found["merges of three"] = written("merges.txt", "#version: 0.2\na b c d\n")
    found["pieces"] = written("tokenizer.json", json.dumps({"model": 1}))
    return found


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_clip(tmp_path_factory.mktemp("model") / "good")
    load_encoder(f"hf:{folder}", store_root=folder, device="cpu")
    return folder


def test_every_hostile_folder_is_one_sentence(good: Path, tmp_path: Path) -> None:
    wrong = {}
    cases = folders()
    assert len(cases) >= 85
    for number, (name, change) in enumerate(cases.items()):
        folder = shutil.copytree(good, tmp_path / f"m{number}")
        change(folder)
        try:
            load_encoder(f"hf:{folder}", store_root=tmp_path, device="cpu")
            wrong[name] = "was loaded"
        except ModelError as error:
            if "\n" in error.what or not error.remedy:
                wrong[name] = str(error)
        except Exception as error:  # noqa: BLE001  (any other is what this test is about)
            wrong[name] = repr(error)
        shutil.rmtree(folder)
    assert not wrong
