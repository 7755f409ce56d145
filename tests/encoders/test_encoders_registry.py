"""Names of models: what they stand for, and what is said when they stand for nothing."""

import subprocess
import sys

import pytest
from safetensors.numpy import load_file, save_file
from transformers.utils import logging

from helpers.tiny_checkpoints import as_pickle, cached, write_clip, write_siglip
from linkage_core.encoders import phantom
from linkage_core.encoders.hub import PUBLISHED
from linkage_core.encoders.registry import NAMED, PHANTOM, known_models, load_encoder
from linkage_core.errors import ModelError


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "hub"


def test_the_ladder_here_is_the_ladder_of_the_phantom():
    assert PHANTOM == phantom.MODELS


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("clipp", "no model 'clipp'", "Did you mean clip? Known: phantom-general, "),
        ("phantom-radiologie", "no model", "Did you mean phantom-radiology?"),
        ("zzz", "no model 'zzz'", "Known: phantom-general, "),
        ("", "no model ''", "Known: "),
        ("clip", "clip (openai/clip-vit-base-patch32 at 3d74acf9a28c) is not", "`linkage pull clip`"),
        ("pubmedclip", "is not on this machine", "`linkage pull pubmedclip`"),
        ("biomedclip", "at 9f341de24bfb) is not on this machine", "`linkage pull biomedclip`"),
        ("biovil-t", "at 692f09e9be1b) is not on this machine", "`linkage pull biovil-t`"),
        ("biovilt", "no model 'biovilt'", "Did you mean biovil-t?"),
        ("hf:org/none", "org/none is not on this machine", "`linkage pull hf:org/none`"),
        ("hf:org/none@v2", "org/none at v2 is not on this machine", "`linkage pull hf:org/none@v2`"),
        ("hf:./nowhere", "no folder ./nowhere", "hf:ORG/NAME"),
        ("/nowhere", "no folder /nowhere", "Check the path"),
        ("hf:", "names no repository", "hf:ORG/NAME"),
        ("open_clip:org/none", "needs the package open_clip", "requirements-models.txt"),
    ],
)
def test_what_is_unknown_or_absent_names_the_thing_and_the_remedy(tmp_path, name, what, remedy):
    with pytest.raises(ModelError) as caught:
        load_encoder(name, store_root=tmp_path)
    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_an_open_clip_that_cannot_be_imported_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    (tmp_path / "open_clip").mkdir()
    (tmp_path / "open_clip/__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"cannot be imported: operator torchvision::nms") as caught:
        load_encoder("open_clip:org/none", store_root=tmp_path)
    assert "requirements-models.txt" in caught.value.remedy


def test_an_unknown_device_is_refused(tmp_path):
    with pytest.raises(ModelError, match="'tpu' is no device"):
        load_encoder("clip", store_root=tmp_path, device="tpu")


def test_a_device_that_the_built_in_models_do_not_use_is_refused(tmp_path):
    with pytest.raises(ModelError, match="phantom-general is small and runs on the processor, not on cuda"):
        load_encoder("phantom-general", store_root=tmp_path, device="cuda")
    assert load_encoder("phantom-general", store_root=tmp_path, device="cpu").name == "phantom-general"


def test_weights_that_do_not_fit_are_told_by_our_error_alone(tmp_path, caplog, capsys):
    folder = write_clip(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["more"] = tensors.pop("visual_projection.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    capsys.readouterr()  # what writing the model said
    logging.get_logger("transformers").addHandler(caplog.handler)
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(ModelError, match=r"visual_projection.weight missing"):
        load_encoder(str(folder), store_root=tmp_path, device="cpu")
    logging.get_logger("transformers").removeHandler(caplog.handler)
    assert caplog.records == []
    assert capsys.readouterr().err == ""
    assert before == (logging.get_verbosity(), logging.is_progress_bar_enabled())


def test_a_folder_loads_by_every_spelling(tmp_path, monkeypatch):
    write_clip(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    for name in ("hf:./model", "./model", str(tmp_path / "model"), f"hf:{tmp_path / 'model'}"):
        encoder = load_encoder(name, store_root=tmp_path, device="cpu")
        assert encoder.name == name
        assert encoder.describe()["family"] == "clip"


def test_known_models_say_what_is_here(tmp_path, caches):
    write_siglip(cached(caches, "org/sig"))
    as_pickle(write_clip(cached(caches, "org/old")))
    (cached(caches, "org/bert") / "config.json").write_text('{"model_type": "bert"}')
    models = {info.name: info for info in known_models(tmp_path)}
    assert list(models)[: len(NAMED) + len(PUBLISHED)] == [*NAMED, *PUBLISHED]
    assert set(models) == {*NAMED, *PUBLISHED, "hf:org/sig", "hf:org/old"}
    assert not models["clip"].present
    assert "`linkage pull clip`" in models["clip"].note
    here = models["hf:org/sig"]
    assert (here.present, here.family, here.repo) == (True, "siglip", "org/sig")
    assert here.size == (caches / f"models--org--sig/snapshots/{here.revision}/model.safetensors").stat().st_size
    assert (models["hf:org/old"].present, models["hf:org/old"].size) == (False, None)
    assert "pickle" in models["hf:org/old"].note


def test_a_phantom_in_the_store_is_known(tmp_path):
    weights = tmp_path / "phantom" / PHANTOM[0] / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"12345")
    assert phantom.weights_path(PHANTOM[0], tmp_path) == weights
    info = known_models(tmp_path)[0]
    assert (info.present, info.size, info.where) == (True, 5, str(weights.parent))


def test_listing_models_imports_no_torch():
    code = "import sys; from linkage_core.encoders.registry import known_models; known_models(); "
    look = code + "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
