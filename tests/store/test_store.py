"""The store: whole or not at all, and never used when altered."""

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from helpers.toy import toy_entry
from linkage_core.audit import study
from linkage_core.errors import InputError, StoreError
from linkage_core.heads import Heads, Linear
from linkage_core.store import files, sealed
from linkage_core.store.entry import Entry, Store, folder_name


def test_an_entry_reads_back_what_was_written(entry: Entry, store: Store) -> None:
    assert store.cohorts() == ["toy"]
    assert store.models("toy") == ["m"]
    embeddings = entry.embeddings(split="all")
    assert np.linalg.norm(embeddings.images, axis=1) == pytest.approx(1, abs=1e-6)
    assert (
        embeddings.candidates["study_id"].to_numpy()[embeddings.match] == embeddings.records["study_id"].to_numpy()
    ).all()
    assert embeddings.candidates["study_id"].is_unique
    assert entry.verify() == []


def test_rows_join_by_id_whatever_their_order(entry: Entry) -> None:
    ids = entry.records()["record_id"]
    backwards = ids.iloc[::-1]
    assert (entry.features("image", backwards) == entry.features("image", ids)[::-1]).all()
    with pytest.raises(StoreError, match="no image features for 'nobody'"):
        entry.features("image", ["nobody"])


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    elif how == "flip":
        content[-1] ^= 1
    elif how == "empty":
        content.clear()
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["cut", "flip", "empty", "gone"])
def test_every_damaged_file_is_named_and_never_used(entry: Entry, store: Store, how: str) -> None:
    study.study(entry)
    for path in sorted(p for p in entry.path.rglob("*") if p.suffix in (".parquet", ".safetensors")):
        whole = path.read_bytes()
        if how == "gone":
            if path.parent.name == "ranks":
                continue  # counts that are gone are made again
            path.unlink()
        else:
            damage(path, how)
        fresh = store.open("toy", "m")
        assert any(str(path) in finding for finding in fresh.verify()), path
        with pytest.raises(StoreError, match=path.name.replace(".", r"\.")):
            use_everything(fresh)
        path.write_bytes(whole)
        fresh = store.open("toy", "m")
        assert fresh.verify() == []
        use_everything(fresh)


def use_everything(entry: Entry) -> None:
    entry.rejects()
    entry.identifying()
    entry.stored_reports()
    entry.embeddings(split="all")
    study.study(entry)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99, "files": {}}', "\x00\xff"])
def test_a_broken_manifest_is_an_error_with_a_remedy(entry: Entry, store: Store, content: str) -> None:
    (entry.path / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(StoreError, match="linkage verify toy/m"):
        store.open("toy", "m")


def test_a_manifest_that_was_altered_and_still_reads_is_refused(entry: Entry, store: Store) -> None:
    """Whoever changes a file and its hash in the manifest has the manifest's own digest against them."""
    path = entry.path / "manifest.json"
    written = path.read_text()
    content = json.loads(written)
    for change in ({"text_stored": False}, {"files": {}}, {"digest": "0" * 64}, {"more": 1}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(StoreError, match=r"was altered since it was written.*linkage verify toy/m"):
            store.open("toy", "m")
    del content["digest"]
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="was altered"):
        store.open("toy", "m")
    path.write_text(written)
    store.open("toy", "m")


def test_files_of_an_entry_are_added_once_and_asked_for_by_name(entry: Entry) -> None:
    added = entry.add_file("more.json", lambda path: files.write_json(path, 1), replace=False)
    with pytest.raises(InputError, match=r"already has more\.json"):
        entry.add_file("more.json", lambda path: files.write_json(path, 2), replace=False)
    assert json.loads(added.file("more.json").read_text()) == 1
    with pytest.raises(StoreError, match=r"has no \.\./records\.parquet"):
        added.file("../records.parquet")
    study.study(entry)
    (path,) = (entry.path / "ranks").iterdir()
    as_before(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(StoreError, match=r"cannot be read.*audit again"):
        study.study(entry)


def as_before(path: Path) -> None:
    """Counts as they were kept before they said themselves what they were made from: with a .json beside them."""
    inputs = files.note_of_table(path.read_bytes())["inputs"]
    files.write_table(path, files.read_table(path))
    files.write_json(path.with_suffix(".json"), {"inputs": inputs, "sha256": files.sha256(path)})


def test_counts_kept_as_before_are_read_until_they_are_counted_again(
    entry: Entry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = study.study(entry).counts
    (path,) = (entry.path / "ranks").iterdir()
    as_before(path)
    assert store.open("toy", "m").verify() == []
    with monkeypatch.context() as patch:
        patch.setattr(study.Question, "count", lambda *a: pytest.fail("counted again"))
        assert (study.study(store.open("toy", "m")).counts.n_better == first.n_better).all()
    note = json.loads(path.with_suffix(".json").read_text())
    files.write_json(path.with_suffix(".json"), {**note, "inputs": "others"})
    study.study(store.open("toy", "m"))
    assert list((entry.path / "ranks").iterdir()) == [path], "nothing beside it any more"


def test_counts_of_two_who_write_at_once_stand_under_what_they_were_made_from(
    entry: Entry, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order two processes write, neither's counts are kept under the other's fingerprint."""
    old = store.open("toy", "m")
    old.embeddings()  # read before the entry is another one
    right = study.study(toy_entry(Store(tmp_path / "apart"), tmp_path / "other", signal=0.0)).counts
    new = toy_entry(store, tmp_path / "other", signal=0.0)
    real = files._replace

    def meanwhile(path: Path, content: bytes) -> None:
        real(path, content)
        if path.parent.name == "ranks":
            monkeypatch.setattr(files, "_replace", real)
            study.study(first[1])

    for first in ((old, new), (new, old)):
        for path in (entry.path / "ranks").glob("*"):
            path.unlink()
        monkeypatch.setattr(files, "_replace", meanwhile)
        study.study(first[0])
        fresh = store.open("toy", "m")
        assert fresh.verify() == []
        assert (study.study(fresh).counts.n_better == right.n_better).all()


def test_an_absent_entry_lists_what_there_is(entry: Entry, store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="It has: toy/m"):
        store.open("toy", "other")
    with pytest.raises(StoreError, match="linkage phantom build"):
        Store(tmp_path / "nothing").open("phantom", "phantom-radiology")
    with pytest.raises(StoreError, match=r"no head 'best'.*It has: off-the-shelf"):
        entry.heads("best")
    with pytest.raises(InputError, match="split is 'test'"):
        entry.records("test")


@pytest.mark.parametrize("name", ["..", ".", "", " ", "/", "../", "../.."])
def test_names_of_nothing_are_refused(name: str, store: Store) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        store.open(name, "m")


def test_names_of_models_become_folders() -> None:
    assert folder_name("hf:ORG/NAME") == "hf--ORG--NAME"
    assert folder_name("phantom-radiology") == "phantom-radiology"
    paths = [
        "../up",
        "a b",
        "a-b",
        "a\tb",
        ".hidden",
        "/data/my model",
        "hf:./ck b",
        "hf:./ck  b",
        "ü",
        "é",
        "x" * 300,
        "x" * 301,
    ]
    folders = [folder_name(path) for path in paths]
    assert len(set(folders)) == len(paths)  # two paths never share an entry
    assert folders[2] == "a-b"
    for folder in folders:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", folder)  # none leaves the store
        assert folder_name(folder) == folder
    assert folder_name("hf:./ck b/") == folder_name("hf:./ck b")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StoreError, match="No space"):
        files.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_two_writers_do_not_meet(entry: Entry, store: Store, tmp_path: Path) -> None:
    with files.writing(entry.path), pytest.raises(StoreError, match="Another run is writing"):
        toy_entry(store, tmp_path / "again")


def test_counts_are_kept_and_made_again_when_the_features_change(
    entry: Entry, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = study.study(entry).counts
    monkeypatch.setattr(study, "_counting", lambda *a: pytest.fail("counted again"))
    assert (study.study(store.open("toy", "m")).counts.n_better == first.n_better).all()
    monkeypatch.undo()
    other = toy_entry(store, tmp_path / "other", signal=0.0)
    assert (study.study(other).counts.n_better != first.n_better).any()


def test_counts_of_a_head_that_was_replaced_are_counted_again(entry: Entry) -> None:
    """The name of a head says nothing: what is kept under it was counted with the weights of then."""
    shelf = entry.heads()
    weight = np.random.default_rng(0).standard_normal(shelf.image.weight.shape).astype(np.float32)
    turned = Heads(Linear(weight, shelf.image.bias), shelf.text)
    first = study.study(entry.add_head("mine", shelf, {}), "mine").counts
    again = study.study(entry.add_head("mine", turned, {}, replace=True), "mine")
    assert (again.counts.n_better != first.n_better).any()
    fresh = study.study(entry.add_head("never-counted", turned, {}), "never-counted")
    assert (again.counts.n_better == fresh.counts.n_better).all()


def test_kept_counts_are_joined_by_record_and_refused_of_others(entry: Entry, store: Store) -> None:
    first = study.study(entry).counts
    (path,) = (entry.path / "ranks").glob("*.parquet")
    table, note = files.read_table(path), files.note_of_table(path.read_bytes())

    def kept(rows: pd.DataFrame) -> Entry:
        content = files.table_bytes(rows, {**note, "seal": sealed.OPEN})
        files.write_bytes(path, sealed.sealed(content))
        return store.open("toy", "m")

    again = study.study(kept(table.iloc[::-1])).counts
    for one, other in zip(first, again, strict=True):
        assert (one == other).all()
    strange = table.assign(record_id=table["record_id"].where(table.index > 0, "somebody"))
    for rows in (table.iloc[1:], strange, pd.concat([table, strange.iloc[:1]])):
        with pytest.raises(StoreError, match=r"counts .* are of other records"):
            study.study(kept(rows))


def test_counts_that_were_altered_and_still_read_are_refused(entry: Entry, store: Store) -> None:
    """A whole table with one other number: only its hash can tell."""
    study.study(entry)
    (path,) = (entry.path / "ranks").glob("*.parquet")
    table = files.read_table(path)
    files.write_table(path, table.assign(n_better=table["n_better"] + (table.index == 0).astype(np.int32)))
    with pytest.raises(StoreError, match="was altered or cut short"):
        study.study(store.open("toy", "m"))


def test_a_store_that_is_only_readable_still_answers(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "_replace", denied)
    assert study.study(entry).largest_pool > 10
    assert not (entry.path / "ranks").exists()


def test_ids_of_a_shard_are_packed_and_those_of_before_are_read(tmp_path: Path) -> None:
    ids = [f"A-{i}-1-PA" for i in range(1024)] + ["\n", "é", '"']
    arrays = {"features": np.zeros((2, 3), np.float32)}
    files.write_tensors(tmp_path / "now", arrays, {"ids": ids, "recipe": "r"})
    assert files.read_tensors(tmp_path / "now")[1] == files.read_note(tmp_path / "now") == {"ids": ids, "recipe": "r"}
    assert files.note_of_tensors((tmp_path / "now").read_bytes())["ids"] == ids
    before = safetensors.numpy.save(arrays, metadata={"note": json.dumps({"ids": ids})})
    (tmp_path / "before").write_bytes(before)
    assert files.read_note(tmp_path / "before") == {"ids": ids}
    assert (tmp_path / "now").stat().st_size < len(before) / 3


@pytest.mark.parametrize("ids", ["x", "é", base64.b85encode(zlib.compress(b"[]")[:-1]).decode(), "bomb"])
def test_ids_that_are_none_are_a_damaged_file(ids: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ids == "bomb":
        monkeypatch.setattr(files, "_MOST_IDS", 1 << 16)
        ids = base64.b85encode(zlib.compress(json.dumps(["a" * (1 << 17)]).encode())).decode()
    content = safetensors.numpy.save({"a": np.zeros(1)}, metadata={"note": json.dumps({"ids": ids})})
    (tmp_path / "file").write_bytes(content)
    for read in (files.read_note, files.read_tensors):
        with pytest.raises(StoreError, match="no whole safetensors file"):
            read(tmp_path / "file")
