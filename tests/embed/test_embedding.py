"""The run that fills the store: resumes, rejects by name, and gives what the encoder gave."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.linear_encoder import CountingEncoder, cohort, read_image
from helpers.toy import toy_arrays, toy_records
from linkage_core.cohorts import table
from linkage_core.cohorts.base import Cohort, rejects_table, text_key
from linkage_core.embed import embedding
from linkage_core.embed.embedding import embed, import_arrays
from linkage_core.errors import ImageError, InputError
from linkage_core.images.pixels import Radiograph
from linkage_core.store.entry import Store
from linkage_core.store.files import read_tensors, write_tensors


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "SHARD_ROWS", 16)
    monkeypatch.setattr(embedding, "BATCH", 5)


def test_every_row_is_embedded_or_rejected_by_name(store: Store) -> None:
    source = cohort()
    entry = embed(source, CountingEncoder(), store)
    rejects = entry.rejects()
    assert set(rejects["item"]) == {r for r in source.records["record_id"] if "r3-" in r}
    assert set(rejects["reason"]) == {"truncated"}
    assert len(entry.records()) + len(rejects) == len(source.records)
    assert entry.manifest["counts"]["rejects"] == len(rejects)
    distinct = set(source.records["report"])
    cut = {"distinct": len(distinct), "truncated": sum(len(text) > 20 for text in distinct)}
    assert entry.manifest["truncated_reports"] == cut


def test_stored_features_are_the_encoders(store: Store) -> None:
    source, encoder = cohort(), CountingEncoder()
    entry = embed(source, encoder, store)
    records = entry.records()
    expected = np.stack([read_image({"record_id": r}).pixels.ravel() for r in records["record_id"]])
    assert (entry.features("image", records["record_id"]) == expected).all()
    texts = source.records.set_index("record_id")["report"][records["record_id"]]
    assert (entry.features("text", records["report_key"]) == encoder.text_features(list(texts))).all()
    assert (entry.heads().image.weight == encoder.heads().image.weight).all()


def test_a_killed_run_goes_on_from_whole_shards(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cohort()
    whole = embed(source, CountingEncoder(), Store(store.root / "other"))

    class Killed(BaseException):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "images" and done > 40:
            raise Killed

    with pytest.raises(Killed):
        embed(source, CountingEncoder(), store, progress=stop)
    assert store.cohorts() == [], "no manifest: the entry does not exist yet"
    encoder = CountingEncoder()
    entry = embed(source, encoder, store)
    assert encoder.images_seen < len(source.records) - 30
    assert entry.manifest["files"] == whole.manifest["files"]


def test_a_finished_run_is_not_repeated_and_a_cut_shard_is(store: Store) -> None:
    source = cohort()
    entry = embed(source, CountingEncoder(), store)
    again = CountingEncoder()
    embed(source, again, store)
    assert again.images_seen == 0
    shard = sorted(entry.path.glob("features-image-*"))[1]
    shard.write_bytes(shard.read_bytes()[:-7])
    mended = CountingEncoder()
    assert embed(source, mended, store).verify() == []
    assert 0 < mended.images_seen <= 16
    rebuilt = CountingEncoder()
    embed(source, rebuilt, store, rebuild=True)
    assert rebuilt.images_seen > 50


def test_other_weights_never_mix_with_old_shards(store: Store) -> None:
    source = cohort()
    old = embed(source, CountingEncoder("a"), store)
    new = CountingEncoder("b")
    entry = embed(source, new, store)
    assert new.images_seen > 50
    assert old.manifest["recipe"] != entry.manifest["recipe"]
    on_disk = {path.name for path in entry.path.glob("features-*")}
    assert on_disk == {name for name in entry.manifest["files"] if name.startswith("features-")}


def test_a_shard_under_the_name_of_another_recipe_is_made_again(store: Store) -> None:
    """A name holds eight letters of the recipe; the shard itself holds it whole."""
    source = cohort()
    old = embed(source, CountingEncoder("a"), store)
    strange = {path.name[-13:]: path.read_bytes() for path in old.path.glob("features-image-*")}
    entry = embed(source, CountingEncoder("b"), store)
    shards = sorted(entry.path.glob("features-image-*"))
    shards[0].write_bytes(strange[shards[0].name[-13:]])
    mended = CountingEncoder("b")
    again = embed(source, mended, store)
    assert 0 < mended.images_seen <= 16
    assert again.verify() == []
    assert again.fingerprint == entry.fingerprint


def test_identical_texts_have_identical_vectors(store: Store) -> None:
    entry = embed(cohort(), CountingEncoder(), store)
    embeddings = entry.embeddings(split="all")
    key = text_key("No acute process.")
    same = embeddings.reports[(embeddings.candidates["report_key"] == key).to_numpy()]
    assert len(same) > 5
    assert (same == same[0]).all()


def test_text_is_stored_only_on_request(store: Store) -> None:
    entry = embed(cohort(), CountingEncoder(), store)
    assert entry.stored_reports() == {}
    assert not any(b"Finding number" in path.read_bytes() for path in entry.path.rglob("*") if path.is_file())
    with_text = embed(cohort(), CountingEncoder(), store, store_text=True)
    assert "Finding number" in "".join(with_text.stored_reports().values())
    without = embed(cohort(), CountingEncoder(), store)
    assert not (without.path / "reports.parquet").exists()


def test_nan_features_are_rejected_by_name(store: Store) -> None:
    class Blind(CountingEncoder):
        def image_features(self, images: list[Radiograph]) -> np.ndarray:
            features = super().image_features(images)
            features[0, 0] = np.nan
            return features

    entry = embed(cohort(), Blind(), store)
    assert (entry.rejects()["reason"] == "bad-features").sum() > 5


def test_nothing_to_embed_is_an_error(store: Store) -> None:
    empty = cohort()
    empty = Cohort("toy", "test", None, empty.records.iloc[:0], empty.rejects, read_image)
    with pytest.raises(InputError, match="has no image with a report"):
        embed(empty, CountingEncoder(), store)
    with pytest.raises(InputError, match="dtype is 'int8'"):
        embed(cohort(), CountingEncoder(), store, dtype="int8")
    only_bad = cohort(4)
    bad = only_bad.records[only_bad.records["patient_id"] == "p3"]
    with pytest.raises(InputError, match=r"could be embedded.*ends too early"):
        embed(Cohort("toy", "test", None, bad, only_bad.rejects, read_image), CountingEncoder(), store)


def on_disk(root: Path, without: str = "") -> Cohort:
    """The toy cohort as files of 9 bytes; those whose names hold `without` are not there."""
    root.mkdir(exist_ok=True)
    records = cohort().records
    records = records.assign(image=records["record_id"] + ".bin")
    for place, name in enumerate(records["image"]):
        if not without or without not in name:
            (root / name).write_bytes(bytes(range(1 + place % 99, 10 + place % 99)))

    def read(row: dict[str, str]) -> Radiograph:
        try:
            pixels = np.frombuffer((root / row["image"]).read_bytes(), np.uint8).reshape(3, 3)
        except OSError as error:
            raise ImageError("missing-file", f"{row['image']} is not there.", "Mount the disk.") from error
        return Radiograph(pixels.astype(np.uint16), 8)

    return Cohort("toy", "test", root, records, rejects_table([]), read)


def remarks(source: Cohort, encoder: CountingEncoder, store: Store) -> list[str]:
    said: list[str] = []
    embed(source, encoder, store, progress=lambda stage, done, total: None if total else said.append(stage))
    return said


def test_rejects_are_read_again_once_their_files_are_there(store: Store, tmp_path: Path) -> None:
    source = on_disk(tmp_path / "a", without="r3-")
    assert set(embed(source, CountingEncoder(), store).rejects()["reason"]) == {"missing-file"}
    assert remarks(source, CountingEncoder(), store) == []
    on_disk(tmp_path / "b")
    for path in (tmp_path / "b").glob("r3-*"):
        path.rename(tmp_path / "a" / path.name)
    encoder = CountingEncoder()
    assert remarks(source, encoder, store) == ["1 shard is made again: its files have changed"]
    assert 0 < encoder.images_seen <= 16
    whole = embed(source, CountingEncoder(), Store(tmp_path / "whole")).manifest["files"]
    entry = store.open("toy", "counting")
    assert entry.rejects().empty
    assert entry.manifest["files"] == whole


def test_other_images_under_the_same_names_are_embedded_anew(store: Store, tmp_path: Path) -> None:
    embed(on_disk(tmp_path / "a"), CountingEncoder(), store)
    other = on_disk(tmp_path / "b")
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, (1e9, 1e9))
    n_shards = len(list(store.root.rglob("features-image-*")))
    assert remarks(other, CountingEncoder(), store) == [f"{n_shards} shards are made again: their files have changed"]
    entry = store.open("toy", "counting")
    first = entry.records()["record_id"].iloc[0]
    assert entry.features("image", [first])[0].tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert entry.manifest["cohort"]["root"] == str((tmp_path / "b").resolve())


def test_a_shard_that_says_nothing_of_its_files_is_kept(store: Store, tmp_path: Path) -> None:
    source = on_disk(tmp_path / "a", without="r3-")
    entry = embed(source, CountingEncoder(), store)
    for path in entry.path.glob("features-image-*"):
        tensors, note = read_tensors(path)
        del note["files_sha256"]
        write_tensors(path, tensors, note)
    on_disk(tmp_path / "a")
    again = CountingEncoder()
    assert remarks(source, again, store) == []
    assert again.images_seen == 0


def test_the_state_of_files_is_their_paths_sizes_and_seconds(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1")
    os.utime(tmp_path / "x", (5, 5.25))
    said = b"x\x001 5\n\x00absent\ny\x00absent\na\x00b\x00absent\n"
    assert embedding.files_digest(tmp_path, ["x", "", "y", "a\0b"]) == hashlib.sha256(said).hexdigest()


class Settler(CountingEncoder):
    """Its features say what they were computed in: by its own choice, or as it was told."""

    def __init__(self, choice: str) -> None:
        super().__init__()
        self.choice = choice
        self.now: dict[str, str] = {}

    def settled(self, tower: str) -> str | None:
        return self.now.get(tower)

    def settle(self, tower: str, precision: str) -> None:
        self.now[tower] = precision

    def image_features(self, images: list[Radiograph]) -> np.ndarray:
        precision = self.now.setdefault("image", self.choice)
        return super().image_features(images) + {"float32": 0, "bfloat16": 1000}[precision]


def test_a_resumed_run_computes_in_the_precision_of_the_first(store: Store) -> None:
    class Killed(BaseException):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "images" and done > 40:
            raise Killed

    with pytest.raises(Killed):
        embed(cohort(), Settler("bfloat16"), store, progress=stop)
    entry = embed(cohort(), Settler("float32"), store)
    assert entry.features("image", entry.records()["record_id"]).min() > 1000
    assert entry.manifest["features"]["precision"] == {"image": "bfloat16"}
    shard = sorted(entry.path.glob("features-image-*"))[2]
    tensors, note = read_tensors(shard)
    assert note["precision"] == "bfloat16"
    write_tensors(shard, tensors, note | {"precision": "float32"})
    assert remarks(cohort(), Settler("float32"), store) == ["1 shard is made again: not computed in bfloat16"]
    assert store.open("toy", "counting").manifest["files"] == entry.manifest["files"]


def imported(tmp_path: Path, records: pd.DataFrame) -> Cohort:
    records.to_csv(tmp_path / "records.csv", index=False)
    return table.read(tmp_path / "records.csv", "mine")


def test_bad_arrays_are_named_and_leave_the_old_entry(store: Store, tmp_path: Path) -> None:
    records = toy_records(20)
    source = imported(tmp_path, records)
    images, texts = toy_arrays(records, 1.0)
    before = import_arrays(source, "m", images, texts, store).manifest["files"]

    def broken(array: np.ndarray, row: int, value: float) -> np.ndarray:
        array = array.copy()
        array[row] = value
        return array

    cases = [
        (images[:-1], texts, f"image array has {len(images) - 1} rows, the record table {len(images)}"),
        (broken(images, 4, np.nan), texts, "image array's row 4"),
        (images, broken(texts, 2, 0.0), "text array's row 2"),
        (images[:, :8], texts, "Image vectors have 8 dimensions, text vectors 16"),
        (images.astype(int), texts, "type int64"),
        (images[0], texts, "shape"),
    ]
    for bad_images, bad_texts, message in cases:
        with pytest.raises(InputError, match=message):
            import_arrays(source, "m", bad_images, bad_texts, store)
    twice = records["study_id"].duplicated().to_numpy()
    with pytest.raises(InputError, match="has two different text vectors"):
        import_arrays(source, "m", images, texts + twice[:, None].astype(np.float32), store)
    assert store.open("mine", "m").manifest["files"] == before
    assert store.open("mine", "m").verify() == []


def test_a_record_table_is_checked(tmp_path: Path) -> None:
    records = toy_records(5)
    cases = [
        (records.drop(columns="study_id"), "has no column 'study_id'"),
        (records.assign(record_id="same"), "record_id 'same' more than once"),
        (records.assign(patient_id=""), "row 1 has no patient_id"),
        (records.iloc[:0], "has no rows"),
        (records.assign(Pneumonia=7), "row 1: label 'Pneumonia' is '7'"),
        (records.assign(study_id="one"), "study 'one' has 5 different patients"),
    ]
    for bad, message in cases:
        with pytest.raises(InputError, match=message):
            imported(tmp_path, bad)
    with pytest.raises(InputError, match="There is no file"):
        table.read(tmp_path / "absent.csv", "x")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="cannot be read as a table"):
        table.read(tmp_path / "b.parquet", "x")
