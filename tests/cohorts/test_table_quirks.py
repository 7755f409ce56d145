"""Every reader of a table against every way in which a file differs from its clean twin: read as the twin, refused in a
sentence, or noted; never silently otherwise."""

import csv
import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linkage_core.cohorts import table
from linkage_core.cohorts.base import LABELS, Cohort
from linkage_core.cohorts.registry import open_cohort
from linkage_core.errors import InputError

N = 4
REPORTS = ["Clear lungs, no effusion.", 'A "small" nodule, left.', "Größe normal.", "Line one.\nLine two."]
MIMIC_IDS = ["1000000" + str(i // 2) for i in range(N)]
STUDIES = ["5000000" + str(i) for i in range(N)]


def labels(**values: list[str]) -> dict[str, list[str]]:
    return {**{name: [""] * N for name in LABELS}, "Edema": ["1", "0", "-1", ""], **values}


OWN = {
    "record_id": ["r1", "r2", "r3", "r4"],
    "report": REPORTS,
    "patient_id": ["11", "11", "12", "13"],
    "study_id": ["s1", "s2", "s3", "s4"],
    "view": ["PA", "", "LL", "AP"],
    "sex": ["M", "F", "", "F"],
    "age": ["45", "", "7", "81"],
    "Edema": ["1", "0", "-1", ""],
    "remark": ["ü", "b", "c", "d"],
}
COLUMNS: dict[str, dict[str, list[str]]] = {
    "folder": {"image": [f"{i}.png" for i in range(N)], **OWN},
    "import": OWN,
    "covid": {
        "patientid": ["11", "11", "12", "13"],
        "finding": ["Pneumonia"] * N,
        "view": ["PA", "", "L", "AP"],
        "sex": ["M", "F", "", "F"],
        "age": ["45", "", "7", "81"],
        "filename": [f"{i}.png" for i in range(N)],
        "folder": [""] * N,
        "license": ["CC BY"] * N,
        "clinical_notes": REPORTS,
        "other_notes": [""] * N,
        "remark": ["ü", "b", "c", "d"],
    },
    "metadata": {
        "dicom_id": [f"aa{i}-bb" for i in range(N)],
        "subject_id": MIMIC_IDS,
        "study_id": STUDIES,
        "ViewPosition": ["PA", "", "LL", "AP"],
        "StudyDate": ["21800101"] * N,
        "remark": ["ü", "b", "c", "d"],
    },
    "chexpert": {"study_id": STUDIES, "subject_id": MIMIC_IDS, **labels(), "remark": ["ü", "b", "c", "d"]},
    "split": {
        "dicom_id": [f"aa{i}-bb" for i in range(N)],
        "study_id": STUDIES,
        "subject_id": MIMIC_IDS,
        "split": ["train", "train", "test", "test"],
        "remark": ["ü", "b", "c", "d"],
    },
    "patients": {
        "subject_id": ["10000000", "10000001"],
        "gender": ["F", "M"],
        "anchor_age": ["50", "60"],
        "anchor_year": ["2180", "2180"],
        "remark": ["ü", "b"],
    },
    "sectioned": {
        "study": [f"s{study}" for study in STUDIES],
        "findings": REPORTS,
        "impression": ["Normal."] * N,
        "remark": ["ü", "b", "c", "d"],
    },
    "plus": {
        "path_to_image": [f"train/patient0000{i // 2}/study{i}/view1_frontal.jpg" for i in range(N)],
        "path_to_dcm": [""] * N,
        "frontal_lateral": ["Frontal", "Lateral", "Frontal", "Frontal"],
        "ap_pa": ["AP", "", "PA", ""],
        "deid_patient_id": ["11", "11", "12", "12"],
        "report": ["IMPRESSION: Whole."] * N,
        "section_findings": ["", "Findings.", "", ""],
        "section_impression": REPORTS,
        "age": ["45", "", "7", "81"],
        "sex": ["Male", "Female", "", "Female"],
        "split": ["train"] * N,
    },
    "plus labels": {
        "path_to_image": [f"train/patient0000{i // 2}/study{i}/view1_frontal.jpg" for i in range(N)],
        **labels(),
    },
}
FILES = {
    "folder": "manifest.csv",
    "import": "records.csv",
    "covid": "metadata.csv",
    "metadata": "mimic-cxr-2.0.0-metadata.csv",
    "chexpert": "mimic-cxr-2.0.0-chexpert.csv",
    "split": "mimic-cxr-2.0.0-split.csv",
    "patients": "patients.csv",
    "sectioned": "mimic_cxr_sectioned.csv",
    "plus": "df_chexpert_plus_240401.csv",
    "plus labels": "impression_fixed.csv",
}
KINDS = {  # and what else has to lie there
    "folder": ("folder", ()),
    "covid": ("covid-chestxray", ()),
    **dict.fromkeys(
        ("metadata", "chexpert", "split", "patients", "sectioned"), ("mimic-cxr-jpg", ("metadata", "sectioned"))
    ),
    **dict.fromkeys(("plus", "plus labels"), ("chexpert-plus", ("plus",))),
}


def clean(name: str) -> pd.DataFrame:
    return pd.DataFrame(COLUMNS[name], dtype="str")


def text_of(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


def read(root: Path, name: str, data: bytes, suffix: str = "") -> Cohort:
    """The cohort whose table `name` is these bytes; the other tables of its kind are clean."""
    root.mkdir(exist_ok=True)
    if name == "import":
        path = root / ("records.csv" + suffix)
        path.write_bytes(data)
        return table.read(path, "t")
    kind, names = KINDS[name]
    for other in names:
        if other != name:
            (root / FILES[other]).write_bytes(text_of(clean(other)))
    (root / (FILES[name] + suffix)).write_bytes(data)
    if kind in ("folder", "covid-chestxray"):
        for i in range(N):
            (root / f"{i}.png").touch()
    return open_cohort(kind, root)


def tried(root: Path, name: str, data: bytes) -> tuple[Cohort | None, str]:
    """(the cohort, "") or (None, what it was refused for)."""
    try:
        return read(root, name, data), ""
    except InputError as error:
        return None, error.what if error.remedy else "no remedy"


# What a file may have that its clean twin has not


def with_cells(frame: pd.DataFrame, values: dict[str, str]) -> pd.DataFrame:
    """The first row's cells replaced, of the columns that are there."""
    frame = frame.copy()
    for column, value in values.items():
        if column in frame:
            frame.loc[0, column] = value
    return frame


def lines(change: Callable[[int, str], str]) -> Callable[[bytes], bytes]:
    """Each line (of a table without line ends in its cells) changed."""

    def apply(data: bytes) -> bytes:
        buffer = io.StringIO()
        rows = csv.reader(io.StringIO(data.decode()))
        csv.writer(buffer, lineterminator="\n").writerows([[cell.replace("\n", " ") for cell in row] for row in rows])
        found = buffer.getvalue().splitlines()
        return ("\n".join(change(at, line) for at, line in enumerate(found)) + "\n").encode()

    return apply


def quoted(data: bytes) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows(csv.reader(io.StringIO(data.decode(), newline="")))
    return buffer.getvalue().encode()


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("table.csv", data)
    return buffer.getvalue()


@dataclass(frozen=True)
class Quirk:
    """`outcome`: right, noted (right, and a note says so) or refused; `saying`: words of the note or refusal."""

    outcome: str
    change: Callable[[bytes], bytes]
    saying: str = ""


def frames(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        header, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
        if any(len(row) != len(header) for row in rows):
            raise ValueError("no table")
        return text_of(change(pd.DataFrame(rows, columns=header, dtype="str")))

    return apply


def repeated_first(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[:, :1]], axis=1)


QUIRKS = {
    "byte order mark": Quirk("right", lambda data: b"\xef\xbb\xbf" + data),
    "UTF-16": Quirk("refused", lambda data: data.decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": Quirk("refused", lambda data: data.decode().encode("utf-16-le"), "null byte"),
    "Latin-1": Quirk("refused", lambda data: (data.decode() + "ü,").encode("latin-1"), "not UTF-8"),
    "semicolons": Quirk("refused", lambda data: data.replace(b",", b";"), "semicolons"),
    "tabs": Quirk("refused", lambda data: data.replace(b",", b"\t"), "tabs"),
    "line ends of Windows": Quirk("right", lines(lambda _, line: line + "\r")),
    "line ends of old Macs": Quirk("right", lambda data: lines(lambda _, line: line)(data).replace(b"\n", b"\r")),
    "empty lines": Quirk("right", lines(lambda _, line: line + "\n")),
    "a comma at the end": Quirk("noted", lines(lambda at, line: line + "," * (at > 0)), "1 empty cell more"),
    "two commas at the end": Quirk("noted", lines(lambda at, line: line + ",," * (at > 0)), "2 empty cells more"),
    "a comma at the end of one row": Quirk("refused", lines(lambda at, line: line + "," * (at == 2)), "line 3"),
    "a comma at the end of all rows but one": Quirk(
        "refused", lines(lambda at, line: line + "," * (at not in (0, 2))), "line 3"
    ),
    "a named comma at the end": Quirk("right", lines(lambda _, line: line + ",")),
    "a cell more in each row": Quirk("refused", lines(lambda at, line: line + ",x" * (at > 0)), "cells under"),
    "row names without a name": Quirk("refused", lines(lambda at, line: f"{at}," * (at > 0) + line), "cell"),
    "a cell less": Quirk("refused", lines(lambda at, line: line.rpartition(",")[0] if at == 2 else line), "line 3"),
    "an index": Quirk("right", lines(lambda at, line: (str(7 * at) if at else "") + "," + line)),
    "every cell quoted": Quirk("right", quoted),
    "columns the other way": Quirk("right", frames(lambda frame: frame.iloc[:, ::-1])),
    "blanks round the names of columns": Quirk(
        "right", frames(lambda frame: frame.rename(columns=lambda name: f" {name} "))
    ),
    "a column twice": Quirk("refused", frames(repeated_first), "more than once"),
    "gzipped": Quirk("right", gzip.compress),
    "gzipped and cut": Quirk("refused", lambda data: gzip.compress(data)[:-12], "cannot be read"),
    "zipped": Quirk("refused", zipped, "ZIP archive"),
    "a null byte": Quirk("refused", lambda data: data + b"\0", "null byte"),
    "a quote never closed": Quirk("refused", lambda data: data.rstrip(b"\n") + b'\n"', "line"),
    "words for gaps": Quirk(
        "right",
        frames(
            lambda frame: frame.assign(
                **{
                    column: frame[column].where(frame[column] != "", word)
                    for column, word in (
                        *(("view", "NA"), ("sex", "nan"), ("age", "N/A"), ("Edema", "NULL"), ("Fracture", "None")),
                        *(("ViewPosition", "NaN"), ("ap_pa", "<NA>")),
                    )
                    if column in frame
                }
            )
        ),
    ),
    "a word for a gap as a part of a report": Quirk(
        "noted", frames(lambda frame: with_cells(frame, {"section_findings": "nan"})), "only a word for a gap"
    ),
    "ids as floats": Quirk(
        "noted",
        frames(
            lambda frame: frame.assign(
                **{
                    column: frame[column] + ".0"
                    for column in ("patient_id", "patientid", "subject_id", "deid_patient_id")
                    if column in frame
                }
            )
        ),
        "with .0 at the end",
    ),
    "ids that a spreadsheet cut": Quirk(
        "refused",
        frames(
            lambda frame: with_cells(
                frame, dict.fromkeys(("patient_id", "patientid", "subject_id", "deid_patient_id"), "1.2E+10")
            )
        ),
        "cut the digits",
    ),
    "a view nobody knows": Quirk(
        "changed",
        frames(lambda frame: with_cells(frame, dict.fromkeys(("view", "ViewPosition", "ap_pa"), "tilted"))),
        "PA, AP",
    ),
    "an age in words": Quirk("changed", frames(lambda frame: with_cells(frame, {"age": "forty"})), "number of years"),
    "an age beyond 120": Quirk("changed", frames(lambda frame: with_cells(frame, {"age": "454"})), "number of years"),
    "a sex in other words": Quirk(
        "changed", frames(lambda frame: with_cells(frame, {"sex": "homme", "gender": "homme"})), "F or M"
    ),
    "a label in words": Quirk("refused", frames(lambda frame: with_cells(frame, {"Edema": "yes"})), "'Edema'"),
    "a label beyond": Quirk("refused", frames(lambda frame: with_cells(frame, {"Edema": "3"})), "'Edema'"),
    "nan for a report": Quirk(
        "changed",
        frames(lambda frame: with_cells(frame, {"report": "nan", "clinical_notes": "nan"})),
        "a word for a gap",
    ),
    "NULL for a patient": Quirk(
        "changed",
        frames(lambda frame: with_cells(frame, {"patient_id": "NULL", "patientid": "NULL"})),
        "a word for a gap",
    ),
}
NOT_THERE = {  # of these tables no reader asks for the column, or it is not an id that is read
    "ids as floats": ("split", "plus labels", "sectioned", "chexpert"),
    "ids that a spreadsheet cut": ("split", "plus labels", "sectioned", "chexpert"),
    "nan for a report": ("plus",),  # the whole report counts only where no section does
}
FURTHER = ("chexpert", "split", "patients", "sectioned", "plus labels")
"""Further tables of two readers: what only the text of a file decides is not tried on each of them again."""
OF_THE_TEXT = {
    *("byte order mark", "line ends of Windows", "line ends of old Macs", "empty lines", "two commas at the end"),
    *("a named comma at the end", "every cell quoted", "columns the other way", "blanks round the names of columns"),
}


def same(one: Cohort, other: Cohort) -> bool:
    ours, theirs = (
        cohort.records.assign(report=[" ".join(text.split()) for text in cohort.records["report"]])
        for cohort in (one, other)
    )
    return ours.equals(theirs) and sorted(one.rejects["reason"]) == sorted(other.rejects["reason"])


@pytest.mark.parametrize("name", COLUMNS)
def test_a_quirk_is_read_right_refused_or_noted(tmp_path: Path, name: str) -> None:
    """One test for all quirks of a table: the cells are many and small."""
    data = text_of(clean(name))
    twin = read(tmp_path / "twin", name, data)
    assert len(twin.records) == N
    silent = []
    counts = dict.fromkeys(("right", "noted", "refused", "changed"), 0)
    for number, (called, quirk) in enumerate(QUIRKS.items()):
        changed = quirk.change(data)
        again = name in FURTHER and called in OF_THE_TEXT
        if again or name in NOT_THERE.get(called, ()) or changed == data:
            continue
        found, what = tried(tmp_path / str(number), name, changed)
        counts["refused" if found is None else quirk.outcome] += 1
        if found is None:
            if quirk.outcome != "refused" or quirk.saying not in what:
                silent.append((called, "refused", what))
            continue
        notes = [note for note in found.understood.notes if quirk.saying and quirk.saying in note]
        right = {
            "right": same(found, twin),
            "noted": same(found, twin) and bool(notes),
            "changed": bool(notes) and len(found.records) + len(found.rejects) == N,
        }
        if not right.get(quirk.outcome):
            silent.append((called, "read", str(found.understood.notes)))
    assert not silent
    assert counts["right"] >= (2 if name in FURTHER else 9)
    assert counts["refused"] >= 12


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in ("folder", "import", "covid", "plus labels")])
def test_plain_text_under_gz_is_read(tmp_path: Path, name: str) -> None:
    data = text_of(clean(name))
    assert same(read(tmp_path / "a", name, data, ".gz"), read(tmp_path / "b", name, data))


COMPOSED = sorted(name for name, quirk in QUIRKS.items() if quirk.outcome != "changed")


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["folder", "import", "plus", "sectioned"]),
    chosen=st.lists(st.sampled_from(COMPOSED), min_size=2, max_size=3, unique=True),
)
def test_no_product_of_quirks_is_silently_another_table(
    tmp_path_factory: pytest.TempPathFactory, name: str, chosen: list[str]
) -> None:
    """Whatever two or three quirks come together: the twin's records, or a refusal with a remedy."""
    data = clean_data = text_of(clean(name))
    for called in chosen:
        try:
            data = QUIRKS[called].change(data)
        except (ValueError, csv.Error):  # what was made is no table that could be changed further
            break
    found, what = tried(tmp_path_factory.mktemp("q"), name, data)
    if found is None:
        assert what != "no remedy"
        return
    assert same(found, read(tmp_path_factory.mktemp("q"), name, clean_data)), chosen


# Parquet, of the two tables that one makes oneself


PARQUET: dict[str, Quirk] = {}


def parquet(outcome: str, saying: str = "") -> Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]:
    def add(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        def apply(data: bytes) -> bytes:
            frame = pd.read_csv(io.BytesIO(data), dtype="str", keep_default_na=False)
            buffer = io.BytesIO()
            change(frame).to_parquet(buffer)
            return buffer.getvalue()

        PARQUET[change.__name__] = Quirk(outcome, apply, saying)

    return add


@parquet("right")
def text(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


@parquet("right")
def index_of_a_filter(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame], ignore_index=True).iloc[N:]


@parquet("right")
def index_of_a_concat(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis([0, 1, 0, 1])


@parquet("right")
def ids_as_the_index(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_index("patient_id")


@parquet("right")
def categories_with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(view=frame["view"].replace("", None).astype("category"), sex=frame["sex"].astype("category"))


@parquet("right")
def numbers_with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    numbers = {name: pd.to_numeric(frame[name]) for name in ("age", "Edema", "patient_id")}
    return frame.assign(**numbers | {"patient_id": numbers["patient_id"].astype(float)})


@parquet("right")
def nullable_whole_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{name: pd.to_numeric(frame[name]).astype("Int16") for name in ("age", "Edema", "patient_id")})


@parquet("right")
def columns_of_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(Fracture=None, **{"Pleural Other": np.nan})


@parquet("right")
def columns_that_nobody_reads(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(
        score=[np.inf, -np.inf, np.nan, 1],
        study_date=pd.Timestamp("2020-01-01"),
        no_date=pd.NaT,
        words=[["a", "b"]] * N,
        raw=b"\xff",
        more=[{"a": 1}] * N,
        flag=True,
    )


@parquet("refused", "holds list values")
def lists_where_text_belongs(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(report=[["a", "b"]] * N)


@parquet("refused", "holds dates")
def dates_where_a_number_belongs(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(age=pd.Timestamp("2020-01-01"))


@parquet("refused", "'Edema' is 'True'")
def labels_as_truth(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(Edema=[True, False, True, False])


@parquet("refused", "last digits are lost")
def ids_beyond_a_float(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(patient_id=[1.2e16, 1.2e16 + 2, np.nan, 5])


@parquet("changed", "number of years")
def an_infinite_age(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(age=[np.inf, 45, 45, 45])


@pytest.mark.parametrize("name", ["folder", "import"])
def test_a_saved_frame_is_read_as_its_text(tmp_path: Path, name: str) -> None:
    data = text_of(clean(name))
    twin = read(tmp_path / "twin", name, data)
    for called, quirk in PARQUET.items():
        found, what = tried(tmp_path / called, name, quirk.change(data))  # Parquet under .csv: told by content
        assert (found is None) == (quirk.outcome == "refused"), (called, what)
        if found is None:
            assert quirk.saying in what
            continue
        if quirk.outcome == "right":
            assert same(found, twin), called
        assert not quirk.saying or any(quirk.saying in note for note in found.understood.notes), called


def test_row_numbers_and_an_empty_last_column_are_not_taken_for_a_comma(tmp_path: Path) -> None:
    """Row names without a header, and nothing in the last column: one cell more, empty, in every row. Read as a comma
    at the end, every column would shift."""
    path = tmp_path / "records.csv"
    path.write_text("record_id,patient_id,study_id,report\n1,r1,p1,s1,\n2,r2,p1,s2,\n")
    with pytest.raises(InputError, match="first cells number the rows") as caught:
        table.read(path, "t")
    assert "header" in caught.value.remedy
    path.write_text("row,patient_id,study_id,record_id\n1,p1,s1,r1,\n2,p1,s2,r2,\n")
    assert table.read(path, "t").records["patient_id"].tolist() == ["p1", "p1"]
