"""Finding, downloading and converting models, against a small server that speaks the Hugging Face protocol."""

import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import load_file, save_file

from helpers.tiny_checkpoints import COMMIT, TEXTS, as_pickle, cached, write_biovil_files, write_clip, write_siglip
from linkage_core.encoders import clip, hub
from linkage_core.encoders.hub import cached_repositories, resolve
from linkage_core.encoders.pull import convert, pull
from linkage_core.encoders.registry import known_models, load_encoder
from linkage_core.errors import ModelError

OTHER = "f" * 40


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "hub"


class Hub(BaseHTTPRequestHandler):
    """What `pull` asks of huggingface.co, answered from folders under `root`, all at commit COMMIT."""

    root: Path
    asked: list[str]

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def log_message(self, *_):
        pass

    def _answer(self, body):
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            folder = self.root / "/".join(parts[2:4])
            if not folder.is_dir():
                return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
            headers = {"Content-Type": "application/json"}
            files = [
                {
                    "rfilename": path.name,
                    "type": "file",
                    "path": path.name,
                    "size": path.stat().st_size,
                    "oid": "0" * 40,
                }
                for path in sorted(folder.iterdir())
            ]
            if parts[4:5] == ["tree"]:
                return self._send(200, json.dumps(files).encode(), headers, body)
            info = {"id": "/".join(parts[2:4]), "modelId": "/".join(parts[2:4]), "sha": COMMIT, "siblings": files}
            return self._send(200, json.dumps(info).encode(), headers, body)
        path = self.root / "/".join(parts[:2]) / parts[-1]
        self.asked.append(path.name)
        content = path.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body)

    def _send(self, status, content, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def server(tmp_path, caches, monkeypatch):
    Hub.root, Hub.asked = tmp_path / "served", []
    Hub.root.mkdir()
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.server_port}")
    yield Hub
    listener.shutdown()
    listener.server_close()
    thread.join()


# ---------------------------------------------------------------------------------------------------------- finding it


def test_the_cache_is_where_huggingface_hub_says(monkeypatch, tmp_path):
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.huggingface_cache() == tmp_path / ".cache/huggingface/hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert hub.huggingface_cache() == tmp_path / "x/huggingface/hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "h"))
    assert hub.huggingface_cache() == tmp_path / "h/hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "c"))
    assert hub.huggingface_cache() == tmp_path / "c"


def test_revisions_resolve_to_commits(caches):
    write_clip(cached(caches, "org/tiny", COMMIT))
    write_clip(cached(caches, "org/tiny", OTHER, main=False), seed=1)
    assert resolve("org/tiny").revision == COMMIT
    assert resolve("org/tiny", "main").folder.name == COMMIT
    assert resolve("org/tiny", OTHER).folder.name == OTHER
    assert resolve("org/tiny", "v2") is None
    assert resolve("org/none") is None
    (caches / "models--org--tiny/refs/main").unlink()
    assert resolve("org/tiny") is None  # two commits and nothing that says which


def test_without_a_reference_the_only_snapshot_is_meant(caches):
    write_clip(cached(caches, "org/tiny", COMMIT, main=False))
    assert resolve("org/tiny").revision == COMMIT


def test_a_snapshot_folder_tells_its_commit(caches):
    folder = write_clip(cached(caches, "org/tiny"))
    assert resolve(str(folder)).revision == COMMIT
    assert resolve(str(folder.parent / "nothing")) is None


def test_models_in_the_cache_are_listed_with_their_type(caches):
    write_clip(cached(caches, "org/tiny"))
    write_siglip(cached(caches, "org/sig"))
    (cached(caches, "org/bert") / "config.json").write_text('{"model_type": "bert"}')
    (cached(caches, "org/broken") / "config.json").write_text("{")
    cached(caches, "org/empty")
    assert dict(cached_repositories()) == {"org/tiny": "clip", "org/sig": "siglip", "org/bert": "bert"}


# ------------------------------------------------------------------------------------------------------ downloading it


def test_pull_fetches_what_is_needed_and_nothing_else(server, caches, tmp_path):
    folder = write_clip(server.root / "org/tiny")
    for extra in ("pytorch_model.bin", "flax_model.msgpack", "README.md", "modeling_evil.py"):
        (folder / extra).write_bytes(b"not for you")
    lines = []
    local = pull("hf:org/tiny", lines.append)
    assert set(server.asked) == {
        "config.json",
        "merges.txt",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer_config.json",
        "vocab.json",
    }
    assert local.folder == caches / "models--org--tiny/snapshots" / COMMIT
    assert lines[-1] == f"hf:org/tiny is at {local.folder}"
    assert resolve("org/tiny").revision == COMMIT
    encoder = load_encoder("hf:org/tiny", store_root=tmp_path, device="cpu")
    plain = load_encoder(f"hf:{folder}", store_root=tmp_path, device="cpu")
    np.testing.assert_array_equal(encoder.text_features(TEXTS), plain.text_features(TEXTS))


def test_pull_moves_main_to_what_it_fetched(server, caches):
    write_clip(cached(caches, "org/tiny", OTHER), seed=1)
    write_clip(server.root / "org/tiny")
    assert resolve("org/tiny").revision == OTHER
    pull("hf:org/tiny")
    assert resolve("org/tiny").revision == COMMIT


def test_loading_runs_in_offline_mode_and_leaves_the_setting_as_it_was(tmp_path, monkeypatch):
    seen = []
    read = clip._read_tokenizer
    monkeypatch.setattr(clip, "_read_tokenizer", lambda *a: seen.append(constants.is_offline_mode()) or read(*a))
    load_encoder(str(write_clip(tmp_path / "model")), store_root=tmp_path, device="cpu")
    assert seen == [True]
    assert constants.is_offline_mode() is False
    with hub.offline(), pytest.raises(OfflineModeIsEnabled):
        HfApi(endpoint="http://127.0.0.1:9").model_info("org/tiny")


def test_pull_converts_a_pickle_and_the_result_is_the_same_model(server, caches, tmp_path):
    expected = load_encoder(f"hf:{write_clip(tmp_path / 'plain')}", store_root=tmp_path, device="cpu")
    folder = as_pickle(write_clip(server.root / "org/old"))
    local = pull("hf:org/old")
    digest = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    assert local.source_sha256 == digest
    assert local.folder.is_relative_to(hub.converted_cache())
    encoder = load_encoder("hf:org/old", store_root=tmp_path, device="cpu")
    np.testing.assert_array_equal(encoder.text_features(TEXTS), expected.text_features(TEXTS))
    said = encoder.describe()
    assert (said["model_id"], said["revision"], said["source_sha256"]) == ("org/old", COMMIT, digest)
    assert said["weights_sha256"] == json.loads((local.folder / "source.json").read_text())["weights_sha256"]


def test_pull_fetches_both_models_of_biovil_t_and_no_pickle(server, caches):
    folder = write_biovil_files(server.root / "org/vil")
    wanted = {"model.safetensors", hub.BIOVIL_IMAGE, "config.json", "vocab.txt", "tokenizer_config.json"}
    for extra in ("model.safetensors", hub.BIOVIL_IMAGE, "pytorch_model.bin", "modeling_cxrbert.py", "README.md"):
        (folder / extra).write_bytes(b"some bytes")
    local = pull("hf:org/vil")
    assert set(server.asked) == wanted
    assert [path.name for path in local.weights] == ["model.safetensors", hub.BIOVIL_IMAGE]
    assert hub.family_of(local.folder) == "biovil-t"


def test_pull_takes_the_format_that_the_name_asks_for(server, caches):
    folder = write_clip(server.root / "org/two")
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (folder / name).write_bytes(b"{}")
    pull("hf:org/two")
    assert "open_clip_model.safetensors" not in server.asked
    pull("open_clip:org/two")
    assert "open_clip_model.safetensors" in server.asked


def test_a_published_pickle_that_was_copied_here_is_converted_without_a_connection(caches, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    real = hub.PUBLISHED["pubmedclip"]
    folder = as_pickle(write_clip(cached(caches, real.repo, real.revision)))
    with pytest.raises(ModelError, match="the published file has sha256:4daa7650d2b4"):
        pull("pubmedclip")
    digest = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    monkeypatch.setitem(hub.PUBLISHED, "pubmedclip", replace(real, hashes={"pytorch_model.bin": (f"sha256:{digest}",)}))
    assert pull("pubmedclip").source_sha256 == digest
    assert load_encoder("pubmedclip", store_root=tmp_path, device="cpu").describe()["revision"] == real.revision


def test_a_published_model_must_have_the_published_hash(server, caches, monkeypatch, tmp_path):
    folder = as_pickle(write_clip(server.root / "openai/clip-vit-base-patch32"))
    real = hub.PUBLISHED["clip"]
    monkeypatch.setitem(hub.PUBLISHED, "clip", replace(real, revision=COMMIT))
    with pytest.raises(ModelError, match="the published file has sha256:a63082132ba4"):
        pull("clip")
    assert not list(hub.converted_cache().rglob("*.safetensors"))
    with pytest.raises(ModelError, match="`linkage pull clip` converts it"):
        load_encoder("clip", store_root=tmp_path)
    digest = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    monkeypatch.setitem(
        hub.PUBLISHED, "clip", replace(real, revision=COMMIT, hashes={"pytorch_model.bin": (f"sha256:{digest}",)})
    )
    pull("clip")
    assert load_encoder("clip", store_root=tmp_path, device="cpu").name == "clip"
    info = next(info for info in known_models() if info.name == "clip")
    assert (info.present, info.note, info.revision) == (True, "converted from a pickle", COMMIT)


def test_a_published_name_takes_no_other_weights(caches, monkeypatch, tmp_path):
    """Neither what somebody put in the cache at the pinned commit, nor a converted file that was altered since."""
    real = hub.PUBLISHED["pubmedclip"]
    snapshot = write_clip(cached(caches, real.repo, real.revision))
    digest = hub.sha256_of(snapshot / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        load_encoder("pubmedclip", store_root=tmp_path, device="cpu")
    for said in (str(snapshot / "model.safetensors"), f"sha256:{digest}", "sha256:4daa7650d2b4"):
        assert said in caught.value.what
    assert "hf:./folder" in caught.value.remedy
    assert load_encoder(f"hf:{snapshot}", store_root=tmp_path, device="cpu").describe()["weights_sha256"] == digest
    assert next(info for info in known_models() if info.name == "pubmedclip").present  # a look hashes nothing

    pickle = as_pickle(snapshot) / "pytorch_model.bin"
    published = replace(real, hashes={pickle.name: (f"sha256:{hub.sha256_of(pickle)}",)})
    monkeypatch.setitem(hub.PUBLISHED, "pubmedclip", published)
    weights = pull("pubmedclip").weights[0]
    load_encoder("pubmedclip", store_root=tmp_path, device="cpu")
    whole = load_file(weights)
    save_file(whole | {"visual_projection.weight": -whole["visual_projection.weight"]}, weights)
    with pytest.raises(ModelError, match="but the file that was converted has sha256:"):
        load_encoder("pubmedclip", store_root=tmp_path, device="cpu")
    monkeypatch.setitem(hub.PUBLISHED, "pubmedclip", real)  # converted from a pickle that is not the published one
    with pytest.raises(ModelError, match=r"was converted from a file with sha256:.* published file has sha256:4daa76"):
        load_encoder("pubmedclip", store_root=tmp_path, device="cpu")


def test_pull_says_what_is_wrong(server, caches, monkeypatch):
    with pytest.raises(ModelError, match="org/none at main could not be downloaded") as caught:
        pull("hf:org/none")
    assert "Check the name" in caught.value.remedy
    (server.root / "org/flax").mkdir(parents=True)
    (server.root / "org/flax/config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"none of model\.safetensors, .* pytorch_model\.bin"):
        pull("hf:org/flax")
    for name in ("phantom-general", "hf:./folder", "open_clip:./folder", "klip"):
        with pytest.raises(ModelError, match="cannot be pulled"):
            pull(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        pull("clip")


def test_an_unreachable_network_is_an_error_with_a_remedy(caches, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(ModelError, match="could not be downloaded") as caught:
        pull("clip")
    assert "network" in caught.value.remedy


# ----------------------------------------------------------------------------------------------------------- conversion


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


@pytest.mark.parametrize("content", [{"a": Evil()}, ["no names"], {"a": "text"}], ids=["code", "list", "text"])
def test_a_pickle_that_is_not_plain_tensors_is_refused(tmp_path, capsys, content):
    source = tmp_path / "source"
    source.mkdir()
    torch.save(content, source / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"not a plain file of tensors|does not hold named tensors"):
        convert(source, tmp_path / "target", "org/evil", COMMIT)
    assert "never run" not in capsys.readouterr().out
    assert not (tmp_path / "target").exists()


def test_garbage_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02garbage")
    with pytest.raises(ModelError, match="not a plain file of tensors"):
        convert(tmp_path, tmp_path / "target", "org/evil", COMMIT)


def test_tensors_that_share_memory_are_written_apart(tmp_path):
    shared = torch.arange(6.0)
    torch.save({"a": shared, "b": shared[:3], "c": shared.reshape(2, 3).T}, tmp_path / "pytorch_model.bin")
    convert(tmp_path, tmp_path / "target", "org/x", COMMIT)
    written = load_file(tmp_path / "target/model.safetensors")
    assert torch.equal(written["b"], shared[:3])
    assert torch.equal(written["c"], shared.reshape(2, 3).T)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
