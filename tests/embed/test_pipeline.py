"""Reading and encoding at once: the same bytes for any number of processes, threads and copies of a model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.tiny_checkpoints import write_clip, write_siglip
from linkage_core.cli import main
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed import embedding, pipeline
from linkage_core.embed.embedding import embed
from linkage_core.encoders import threads
from linkage_core.encoders.base import Pictured
from linkage_core.encoders.phantom import PhantomEncoder
from linkage_core.encoders.pictures import eight_bit
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import InputError
from linkage_core.images.pixels import Radiograph
from linkage_core.store.entry import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("input") / "cohort"
    with pytest.raises(SystemExit):
        main.main(["phantom", "export", "--studies", "30", "--size", "64", "--quiet", str(place)])
    return place


@pytest.fixture
def source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cohort:
    monkeypatch.setattr(embedding, "SHARD_ROWS", 16)
    monkeypatch.setattr(pipeline, "CPU_BATCH", 7)
    return open_cohort("folder", folder)


def encoder() -> PhantomEncoder:
    one = load_encoder("phantom-general", store_root=Path("none"))
    assert isinstance(one, PhantomEncoder)
    return one


def test_neither_processes_nor_threads_nor_copies_change_a_byte(source: Cohort, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    files = []
    try:
        for number, (workers, cores, copies) in enumerate([(0, 1, 1), (1, 3, 1), (3, 2, 1), (2, 1, 3)]):
            torch.set_num_threads(cores)
            replicas = [encoder() for _ in range(copies - 1)]
            entry = embed(source, encoder(), Store(tmp_path / str(number)), workers=workers, replicas=replicas)
            files.append(entry.manifest["files"])
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    assert all(one == files[0] for one in files)


def test_every_copy_of_a_model_works(source: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = [encoder() for _ in range(3)]
    seen: set[int] = set()
    plain = PhantomEncoder.picture_features

    def watched(self: PhantomEncoder, pictures: np.ndarray) -> np.ndarray:
        seen.add(id(self))
        return plain(self, pictures)

    monkeypatch.setattr(PhantomEncoder, "picture_features", watched)
    embed(source, copies[0], Store(tmp_path), workers=0, replicas=copies[1:])
    assert seen == {id(one) for one in copies}


class Narrow(PhantomEncoder):
    """Runs out of memory with more than a few images."""

    most = 3

    def picture_features(self, pictures: np.ndarray) -> np.ndarray:
        if len(pictures) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().picture_features(pictures)


def test_a_batch_too_large_is_halved_and_recorded(
    source: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linkage_core.encoders.phantom.PhantomEncoder", Narrow)
    narrow = encoder()
    assert isinstance(narrow, Narrow)
    entry = embed(source, narrow, Store(tmp_path / "a"), workers=0)
    assert entry.manifest["features"]["image_batch"] == 3  # 7, then half of it
    monkeypatch.setattr(Narrow, "most", 0)
    with pytest.raises(InputError, match="does not fit into memory with a single image"):
        embed(source, narrow, Store(tmp_path / "b"), workers=0)


def test_other_errors_of_a_model_are_not_taken_for_memory() -> None:
    assert threads.out_of_memory(torch.OutOfMemoryError("x"))
    assert threads.out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not threads.out_of_memory(RuntimeError("shapes do not match"))


def test_an_altered_shard_is_named_and_made_again(source: Cohort, tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole = embed(source, encoder(), store, workers=0)
    shard = sorted(whole.path.glob("features-image-*"))[1]
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    assert str(shard) in " ".join(store.open("cohort", "phantom-general").verify())
    said: list[str] = []
    again = embed(source, encoder(), store, workers=0, progress=lambda stage, done, total: said.append(stage))
    assert [stage for stage in said if "altered" in stage] == [f"made again, for it was altered: {shard}"]
    assert again.manifest["files"] == whole.manifest["files"]
    assert again.verify() == []


def test_a_rebuild_that_is_killed_leaves_the_old_entry_whole(source: Cohort, tmp_path: Path) -> None:
    store = Store(tmp_path)
    embed(source, encoder(), store, workers=0)

    class Killed(BaseException):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "images" and done > 20:
            raise Killed

    with pytest.raises(Killed):
        embed(source, encoder(), store, workers=0, rebuild=True, progress=stop)
    assert store.open("cohort", "phantom-general").verify() == []


@pytest.mark.parametrize("write", [write_clip, write_siglip])
@pytest.mark.parametrize("shape", [(32, 32), (50, 33), (33, 90), (16, 400), (217, 218), (1000, 31)])
def test_a_picture_is_what_the_repositorys_processor_makes(write, shape: tuple[int, int], tmp_path: Path) -> None:
    model = load_encoder(f"hf:{write(tmp_path)}", store_root=tmp_path, device="cpu")
    assert isinstance(model, Pictured)
    assert model.picture is not None
    pixels = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    rgb = Image.fromarray(eight_bit(pixels)).convert("RGB")
    expected = model._processor(images=[rgb], return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(model.prepare([Radiograph(pixels, 16)]), expected)
