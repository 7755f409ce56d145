"""Arrays from files: put in order by what they say themselves, or refused for what they are."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from linkage_core.embed.arrays import read_array, read_pair
from linkage_core.errors import InputError

N, D = 6, 12
IDS = [f"r{i}" for i in range(N)]
RNG = np.random.default_rng(0)
IMAGE, TEXT = (RNG.normal(size=(N, D)).astype(np.float32) for _ in range(2))
ORDER = np.array([3, 0, 5, 1, 4, 2])


def wide(values: np.ndarray, name: Callable[[int], str] = str) -> pd.DataFrame:
    return pd.DataFrame(values, columns=[name(at) for at in range(D)])


def listed(values: np.ndarray, **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({**columns, "embedding": list(values)})


def saved(folder: Path, *frames: pd.DataFrame) -> list[Path]:
    paths = [folder / f"{at}.parquet" for at in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        frame.to_parquet(path)
    return paths


def alphabet(at: int) -> str:
    return "abcdefghijkl"[at]


SHUFFLED = RNG.permutation(D)
RIGHT = {
    "numbered": (wide(IMAGE), wide(TEXT)),
    "numbered, in another order": (wide(IMAGE).iloc[:, SHUFFLED], wide(TEXT)),
    "numbered as text sorts it": (wide(IMAGE)[sorted(map(str, range(D)))], wide(TEXT)),
    "dim_0 and 1-based": (wide(IMAGE, "dim_{}".format).iloc[:, SHUFFLED], wide(TEXT, lambda at: str(at + 1))),
    "numbers in columns' names": (pd.DataFrame(IMAGE), pd.DataFrame(TEXT)),
    "names alike, in another order": (wide(IMAGE, alphabet), wide(TEXT, alphabet).iloc[:, SHUFFLED]),
    "record ids": (wide(IMAGE).assign(record_id=IDS), wide(TEXT).assign(record_id=IDS)),
    "record ids, rows in another order": (wide(IMAGE).assign(record_id=IDS).iloc[ORDER], wide(TEXT)),
    "record ids under another name": (wide(IMAGE).assign(name=IDS).iloc[ORDER], wide(TEXT)),
    "record ids as the index": (wide(IMAGE).set_axis(IDS).iloc[ORDER], wide(TEXT).set_axis(IDS)),
    "an index column": (wide(IMAGE).reset_index(), wide(TEXT).reset_index(names="Unnamed: 0")),
    "the index of a filter": (wide(IMAGE).set_axis(range(7, 7 + 2 * N, 2)), wide(TEXT)),
    "lists": (listed(IMAGE), listed(TEXT)),
    "lists with ids and text": (
        listed(IMAGE, id=IDS, text=["x"] * N).iloc[ORDER],
        listed(TEXT.astype(np.float64), caption=["y"] * N),
    ),
}


@pytest.mark.parametrize("layout", RIGHT)
def test_columns_and_rows_go_where_they_belong(tmp_path: Path, layout: str) -> None:
    image, text, _ = read_pair(*saved(tmp_path, *RIGHT[layout]), IDS)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(text, TEXT)


def test_ids_that_are_numbers_are_record_ids_too(tmp_path: Path) -> None:
    ids = ["10", "20", "30", "40", "50", "60"]
    for column in (list(map(int, ids)), list(map(float, ids)), ids):
        paths = saved(tmp_path, wide(IMAGE).assign(record_id=column).iloc[ORDER], wide(TEXT))
        np.testing.assert_array_equal(read_pair(*paths, ids)[0], IMAGE)


def test_rows_of_ids_are_noted_and_so_is_an_index_that_is_in_no_order(tmp_path: Path) -> None:
    notes = read_pair(*saved(tmp_path, wide(IMAGE).assign(record_id=IDS).iloc[ORDER], wide(TEXT)), IDS)[2]
    assert notes == ["rows of 0.parquet were put into the order of the records, by its column 'record_id'"]
    image, _, notes = read_pair(*saved(tmp_path, wide(IMAGE).iloc[ORDER], wide(TEXT)), IDS)
    np.testing.assert_array_equal(image, IMAGE[ORDER])
    assert "goes up and down" in notes[0]
    assert read_pair(*saved(tmp_path, wide(IMAGE), wide(TEXT)), IDS)[2] == []
    assert "the same numbers" in read_pair(*saved(tmp_path, wide(IMAGE), wide(IMAGE)), IDS)[2][0]


def test_fixed_size_and_half_precision_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    flat = pa.array(IMAGE.astype(np.float16).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, D)
    pq.write_table(pa.table({"vector": pa.chunked_array([vectors[:2], vectors[2:]])}), path)
    np.testing.assert_array_equal(read_array(path).values, IMAGE.astype(np.float16))


REFUSED = {
    "a column that is no dimension": (wide(IMAGE).assign(age=50.0), "'age', which is neither"),
    "a label among them": (wide(IMAGE).assign(Edema=1.0), "'Edema', which is neither"),
    "a patient": (wide(IMAGE).assign(patient_id=["p"] * N), "'patient_id', which is neither"),
    "an unknown number": (wide(IMAGE).assign(score=0.5), "'score', which is neither"),
    "whole numbers that are no ids": (wide(IMAGE).assign(fold=[1, 1, 2, 2, 3, 3]), "'fold', which is neither"),
    "a dimension too few": (wide(IMAGE).drop(columns="3"), "no column 3 among its 11"),
    "names of their own on one side": (wide(IMAGE, alphabet), "has no column"),
    "other ids": (wide(IMAGE).assign(record_id=[f"q{i}" for i in range(N)]), "0 of 6 are"),
    "some of the ids": (wide(IMAGE).assign(key=[*IDS[:-1], "q"]), "5 of 6 are"),
    "an id twice": (wide(IMAGE).assign(record_id=[*IDS[:-1], "r0"]), "it has no 'r5'"),
    "ids in lists that are others": (listed(IMAGE, record_id=[*IDS[:-1], "q"]), "5 of 6 are"),
    "lists of two lengths": (pd.DataFrame({"a": [[1.0, 2.0]] * (N - 1) + [[1.0]]}), "row 5 differs"),
    "two columns of lists": (listed(IMAGE).assign(other=list(TEXT)), "2 columns of lists: embedding, other"),
    "lists of words": (pd.DataFrame({"a": [["x"]] * N}), "lists of string"),
    "text alone": (pd.DataFrame({"a": ["x"] * N}), "no columns of floats"),
    "dates": (wide(IMAGE).assign(date=pd.Timestamp("2020-01-01")), "'date', which is neither"),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_what_is_neither_dimension_nor_id_is_refused(tmp_path: Path, layout: str) -> None:
    frame, saying = REFUSED[layout]
    with pytest.raises(InputError) as caught:
        read_pair(*saved(tmp_path, frame, wide(TEXT)), IDS)
    assert saying in caught.value.what
    assert caught.value.remedy


def test_a_tensor_of_safetensors_and_arrays_of_numpy(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"x": IMAGE}, tmp_path / "a.safetensors")
    np.save(tmp_path / "a.npy", TEXT)
    image, text, notes = read_pair(tmp_path / "a.safetensors", tmp_path / "a.npy", IDS)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(text, TEXT)
    assert notes == []
    np.savez(tmp_path / "a.npz", x=TEXT)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npz").values, TEXT)


def torch_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
        archive.writestr("archive/data/0", b"\0" * 8)
    return buffer.getvalue()


def numpy_file(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "saying"),
    [
        ("a.pt", torch_file(), "PyTorch"),
        ("a.npy", torch_file(), "PyTorch"),  # told by content
        ("a.pt", pickle.dumps([1.0]), "pickle"),
        ("a.npy", pickle.dumps([1.0]), "pickle"),
        ("a.npy", objects(), "Python objects"),
        ("a.csv", b"0,1\n0.5,0.25\n", "a table of text"),
        ("a.npy", b"0,1\n0.5,0.25\n", "a table of text"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "HDF5"),
        ("a.npy", b"", "empty"),
        ("a.bin2", bytes(range(128, 228)), "begins with"),
        ("a.npz", numpy_file(x=IMAGE, y=TEXT), "2 arrays: x, y"),
        ("a.zip", torch_file().replace(b"data.pkl", b"data.txt"), "without arrays"),
        ("a.npy", b"\x93NUMPY\x01\x00", "cannot be read"),
        ("a.parquet", b"PAR1" + b"\0" * 20, "Parquet"),
        ("a.safetensors", b"\x05\0\0\0\0\0\0\0{}", "safetensors"),
        ("a.safetensors", safetensors.numpy.save({"x": IMAGE, "y": TEXT}), "2 tensors: x, y"),
    ],
)
def test_a_file_that_is_no_array_is_said_to_be_what_it_is(tmp_path: Path, name: str, data: bytes, saying: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_array(path)
    said = str(caught.value)
    assert saying in said
    assert caught.value.remedy
    assert "allow_pickle" not in said, "nobody is told how to open a pickle"
    assert "weights_only" not in said


def test_a_file_that_is_not_there_or_whose_name_cannot_be_said(tmp_path: Path) -> None:
    for path, saying in (
        (tmp_path / "no.npy", "There is no file"),
        (tmp_path, "is a folder"),
        (tmp_path / "\udcfc", "xfc"),
    ):
        with pytest.raises(InputError) as caught:
            read_array(path)
        assert saying in caught.value.what
        caught.value.what.encode()
