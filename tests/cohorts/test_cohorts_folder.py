import csv
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from linkage_core import confirmed
from linkage_core.cohorts import fields, files, folder, manifest
from linkage_core.cohorts.base import FEW, LABELS, RECORD_COLUMNS, REJECT_COLUMNS, SPLITS, split_by_patient
from linkage_core.cohorts.files import check_images
from linkage_core.cohorts.manifest import read_manifest
from linkage_core.cohorts.registry import open_cohort, source_for
from linkage_core.cohorts.summary import summarise
from linkage_core.errors import ImageError, InputError


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24)).astype(np.uint8)).save(path)


def rows(n=6, **columns):
    """A sound manifest of n rows, two images a patient; `columns` are added or replaced."""
    table = {
        "image": [f"images/{i}.png" for i in range(n)],
        "report": [f"Report number {i}, clear lungs." for i in range(n)],
        "patient_id": [f"p{i // 2}" for i in range(n)],
    }
    return pd.DataFrame({**table, **columns})


@pytest.fixture
def made(tmp_path):
    """A function that writes a manifest (a table, text or bytes) beside six images and returns the folder."""
    for i in range(6):
        picture(tmp_path / "images" / f"{i}.png", i)

    def make(content, name="manifest.csv"):
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif isinstance(content, str):
            (tmp_path / name).write_text(content, encoding="utf-8")
        elif name.endswith(".parquet"):
            content.to_parquet(tmp_path / name)
        else:
            content.to_csv(tmp_path / name, index=False)
        return tmp_path

    return make


def refused(root, *words, **options):
    with pytest.raises(InputError) as caught:
        folder.read(root, **options)
    assert caught.value.remedy
    for word in words:
        assert word in caught.value.what
    return caught.value


def reasons(cohort):
    return dict(zip(cohort.rejects["item"], cohort.rejects["reason"], strict=True))


def test_a_sound_manifest(made):
    extra = {
        "Study_ID": ["s0", "s0", "s1", "s2", "s3", "s4"],
        "record_id": list("abcdef"),
        "view": ["PA", "lateral", "AP Supine", "", "ll", "frontal"],
        "sex": ["male", "F", "f", "x", "", "M"],
        "age": ["45", "045Y", "200", "-3", "", "18M"],
        "pleural effusion": ["1", "0", "-1", "", "1.0", "-1.0"],
        "something else": list("uvwxyz"),
    }
    table = rows(**extra)
    table.loc[1, "report"] = "REPORT number 0,   clear lungs."  # the same report but for case and blanks
    cohort = folder.read(made(table), seed=3)
    records = cohort.records
    assert tuple(records.columns) == RECORD_COLUMNS
    assert tuple(cohort.rejects.columns) == REJECT_COLUMNS
    assert cohort.rejects.empty
    assert records["record_id"].tolist() == list("abcdef")
    assert records["study_id"].tolist() == ["s0", "s0", "s1", "s2", "s3", "s4"]
    assert records["view"].tolist() == ["PA", "LATERAL", "AP", "", "LATERAL", ""]
    assert records["sex"].tolist() == ["M", "F", "F", "", "", "M"]
    np.testing.assert_array_equal(records["age"], [45, 45, np.nan, np.nan, np.nan, 1.5])
    np.testing.assert_array_equal(records["Pleural Effusion"], [1, 0, -1, np.nan, 1, -1])
    assert records["Edema"].isna().all()
    assert records.groupby("study_id")["report"].nunique().max() == 1
    assert records.groupby("patient_id")["split"].nunique().max() == 1
    assert set(records["split"]) <= {"finetune", "attacker", "heldout"}
    assert cohort.read_image(records.iloc[0]).pixels.shape == (20, 24)


def test_defaults_of_ids(made):
    table = rows()
    table.loc[1, "report"] = table.loc[0, "report"]
    records = folder.read(made(table)).records
    assert records["record_id"].tolist() == table["image"].tolist()
    assert records["study_id"].nunique() == 5
    assert records["study_id"][0] == records["study_id"][1]


def test_parquet_with_mixed_types(made):
    table = rows(patient_id=[1.0, 1.0, 2.0, 2.0, np.nan, 4.0], age=[1, 2, 3, 4, 5, 6], Edema=[1, 0, -1, None, 1, 0])
    cohort = folder.read(made(table, "manifest.parquet"))
    assert cohort.records["patient_id"].tolist() == ["1", "1", "2", "2", "4"]
    assert reasons(cohort) == {"images/4.png": "no-patient"}
    np.testing.assert_array_equal(cohort.records["Edema"], [1, 0, -1, np.nan, 0])


def test_the_split_depends_on_the_seed_and_nothing_else(made, tmp_path):
    table = rows(patient_id=list("abcdef"))
    root = made(table)
    first = folder.read(root, seed=1).records.set_index("record_id")["split"]
    made(table.iloc[::-1])
    again = folder.read(root, seed=1).records.set_index("record_id")["split"]
    pd.testing.assert_series_equal(first.sort_index(), again.sort_index())
    assert any(
        (folder.read(root, seed=seed).records["split"].to_numpy() != again.to_numpy()).any() for seed in range(5)
    )


def test_a_small_cohort_has_its_shares_and_a_large_one_moves_nobody():
    """Below FEW patients shares are exact; from there on a patient stays where it is whoever joins."""
    for n in range(3, FEW):
        counts = split_by_patient(pd.Series([f"p{i}" for i in range(n)]), 0).value_counts()
        for name, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
            assert counts.get(name, 0) >= 1
            assert abs(counts[name] - share * n) <= 1.5, (n, counts)
    some = split_by_patient(pd.Series([f"p{i}" for i in range(FEW)]), 0)
    more = split_by_patient(pd.Series([f"p{i}" for i in range(3 * FEW)]), 0)
    assert some.tolist() == more[:FEW].tolist()
    assert split_by_patient(pd.Series(["a", "b", "c", "d"]), 0, (0.5, 0.0, 0.5)).isin(["finetune", "heldout"]).all()


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (0.2, 0.2, 0.2), (0.8, 0.4, -0.2), (0.5, 0.5)])
def test_shares_of_a_split_sum_to_one(fractions):
    """Else whoever is beyond the last edge would be held out, or nobody."""
    with pytest.raises(InputError, match=r"fractions are .*three shares"):
        split_by_patient(pd.Series(["a", "b"]), 0, fractions)


# Manifests that cannot be trusted


@pytest.mark.parametrize("column", ["image", "report", "patient_id"])
def test_a_missing_column_is_named(made, column):
    refused(made(rows().drop(columns=column)), f"no column '{column}'")


def test_a_repeated_record_id_is_named(made):
    refused(made(rows(record_id=list("abcabd"))), "'a'", "rows 1, 4")
    refused(made(rows(image=["images/0.png"] * 6)), "images/0.png")


@pytest.mark.parametrize("value", ["2", "yes", "0.5", "inf", "1 0"])
def test_an_unknown_label_value_is_named(made, value):
    refused(made(rows(Edema=["1", value, "", "", "", ""])), "Edema", repr(value), "row 2")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["no header"]),
        (b"\n\n", ["no header"]),
        (b"image,report,patient_id\n", ["no rows"]),
        ("image,report,patient_id\nimages/0.png,Größe,p\n".encode("latin-1"), ["UTF-8", "line 2", "0xF6", "Latin-1"]),
        ("image,report,patient_id\n".encode("utf-16"), ["UTF-16"]),
        (b"image,report,patient_id\na.png,x\0y,p\n", ["null byte"]),
        (b"image;report;patient_id\na.png;x;p\n", ["semicolons"]),
        (b"image\treport\tpatient_id\na.png\tx\tp\n", ["tabs"]),
        (b"image,report,patient_id\na.png,clear, normal,p\n", ["line 2", "4 cells"]),
        (b"image,report,patient_id\na.png,x\n", ["line 2", "2 cells"]),
        (b'image,report,patient_id\na.png,"never closed,p\n', ["line 2"]),
        (b'image,patient_id,report\na.png,p,"never closed\nb.png,q,x\nc.png,r,y\n', ["line 4"]),
        (b"image,report,patient_id,report\na.png,x,p,y\n", ["'report'", "more than once"]),
        (b"image,report,patient_id,Report\na.png,x,p,y\n", ["'report' and 'Report'"]),
    ],
)
def test_unreadable_manifests(made, content, words):
    refused(made(content), *words)


def test_a_table_that_is_too_large_is_not_read(made, monkeypatch):
    root = made(rows())
    size = (root / "manifest.csv").stat().st_size
    monkeypatch.setattr(manifest, "MAX_BYTES", size)
    folder.read(root)
    monkeypatch.setattr(manifest, "MAX_BYTES", size - 1)
    assert f"At most {size - 1:,} are read" in refused(root, f"has {size:,} bytes").remedy


def test_damaged_parquet(made):
    root = made(rows(), "manifest.parquet")
    whole = (root / "manifest.parquet").read_bytes()
    for damaged in (b"", b"PAR1", whole[:200], whole[:-20], b"image,report\n"):
        refused(made(damaged, "manifest.parquet"), "Parquet")
    made(rows(age=[{"a": 1}] * 6), "manifest.parquet")
    refused(root, "'age'", "dict")


def test_folder_and_manifest_that_are_not_there(made, tmp_path):
    refused(tmp_path / "no", "not a folder")
    refused(None, "needs a folder")
    refused(tmp_path, "no manifest.csv")
    root = made(rows())
    refused(root, "other.csv", manifest="other.csv")
    refused(root, "outside", manifest="../manifest.csv")
    made(rows(), "manifest.parquet")
    refused(root, "manifest.csv and manifest.parquet")
    assert len(folder.read(root, manifest="manifest.parquet").records) == 6


def test_byte_order_mark_quotes_and_line_ends(made):
    text = (
        'image,report,patient_id\r\nimages/0.png,"Two\r\nlines, ""quoted"", and a comma",p\r\n\r\nimages/1.png,x,q\r\n'
    )
    cohort = folder.read(made(b"\xef\xbb\xbf" + text.encode()))
    assert cohort.records["report"].tolist() == ['Two\r\nlines, "quoted", and a comma', "x"]


# Rows that are left out


def test_images_outside_or_missing_are_rejected_by_row_and_path(made, tmp_path):
    root = made(rows())
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    picture(outside)
    (root / "images" / "link.png").symlink_to(outside)
    images = ["images/0.png", f"../{outside.name}", str(outside), "images/link.png", "images/none.png", ""]
    cohort = folder.read(made(rows(image=images)))
    assert cohort.records["image"].tolist() == ["images/0.png"]
    assert cohort.rejects["reason"].tolist() == ["outside-root"] * 3 + ["missing-file"] * 2
    for number, image, what in zip(range(2, 6), images[1:5], cohort.rejects["what"], strict=False):
        assert f"Row {number} " in what
        assert image in what
    for row in ({"record_id": "x", "image": image} for image in images[1:5]):
        with pytest.raises(ImageError):
            cohort.read_image(row)


def test_empty_reports_and_patients_are_rejected(made):
    cohort = folder.read(made(rows(report=["a", "", "  \n", "d", "e", "f"], patient_id=["p", "p", "p", " ", "", "q"])))
    assert reasons(cohort) == {
        "images/1.png": "empty-report",
        "images/2.png": "empty-report",
        "images/3.png": "no-patient",
        "images/4.png": "no-patient",
    }


def test_contradictions_are_rejected(made):
    table = rows(
        record_id=list("abcdef"),
        study_id=["s", "s", "t", "t", "u", "v"],
        patient_id=["p", "p", "q", "r", "x", "y"],
        image=[*(f"images/{i}.png" for i in range(5)), "images/4.png"],
    )
    table.loc[3, "report"] = table.loc[2, "report"]
    found = reasons(folder.read(made(table)))
    assert found == {
        **dict.fromkeys("ab", "study-with-two-reports"),
        **dict.fromkeys("cd", "study-of-two-patients"),
        **dict.fromkeys("ef", "image-of-two-patients"),
    }


def test_a_section_can_be_chosen(made):
    reports = [
        "FINDINGS: Clear. IMPRESSION: Normal.",
        "Findings: Effusion.\nSecond line.\nImpression: Fluid.",
        "FINDINGS AND IMPRESSION: Same.",
        "HISTORY: cough. IMPRESSION: Pneumonia. NOTE: called.",
        "no headings",
        "IMPRESSION:",
    ]
    root = made(rows(report=reports, patient_id=list("abcdef")))
    impressions = folder.read(root, section="impression")
    assert impressions.records["report"].tolist() == [
        *("Normal.", "Fluid.", "Same."),
        "Pneumonia. NOTE: called.",  # as sections.select cuts it: within a line only findings and impression begin
    ]
    assert set(impressions.rejects["reason"]) == {"empty-report"}
    assert folder.read(root, section="findings").records["report"].tolist() == [
        "Clear.",
        "Effusion. Second line.",
        "Same.",
    ]
    assert len(folder.read(root).records) == 6
    refused(root, "'conclusion'", section="conclusion")


def test_checking_images_moves_those_that_fail(made):
    root = made(rows())
    (root / "images" / "2.png").write_bytes(b"no image")
    Image.new("L", (20, 20)).save(root / "images" / "3.png")
    calls = []
    cohort = open_cohort("folder", root, check_images=True, progress=lambda done, total: calls.append((done, total)))
    assert reasons(cohort) == {"images/2.png": "not-an-image", "images/3.png": "constant"}
    assert len(cohort.records) == 4
    assert calls == [(i, 6) for i in range(1, 7)]
    assert check_images(cohort).records.equals(cohort.records)


def test_every_row_is_a_record_or_a_reject_and_options_read_it_again(made):
    table = rows(report=["a", "a", "", "d", "e", "f"], image=[*(f"images/{i}.png" for i in range(5)), "../x.png"])
    root = made(table)
    cohort = open_cohort("folder", root, seed=7, section="both")
    assert len(cohort.records) + len(cohort.rejects) == 6
    again = open_cohort("folder", root, **json.loads(json.dumps(cohort.options)))
    pd.testing.assert_frame_equal(again.records, cohort.records)


def test_all_rows_rejected_is_an_empty_cohort(made):
    cohort = folder.read(made(rows(report=[""] * 6)))
    assert cohort.records.empty
    assert tuple(cohort.records.columns) == RECORD_COLUMNS
    summary = summarise(cohort)
    assert summary["images"] == 0
    assert summary["rejects"] == {"empty-report": 6}
    json.dumps(summary)


# Summary and the way back


def test_summary_counts(made):
    table = rows(
        study_id=["s0", "s0", "s1", "s2", "s3", "s4"],
        report=["a b", "a b", "A  b", "one two three", "w", "v"],
        view=["PA", "L", "", "AP", "AP", "AP"],
        sex=["M", "", "", "F", "F", "F"],
        Edema=["1", "1", "0", "-1", "", ""],
    )
    table.loc[5, "report"] = ""
    cohort = folder.read(made(table))
    summary = json.loads(json.dumps(summarise(cohort)))
    assert (summary["rows_read"], summary["images"], summary["studies"], summary["patients"]) == (6, 5, 4, 3)
    assert summary["distinct_reports"] == 3
    assert summary["views"] == {"PA": 1, "LATERAL": 1, "not given": 1, "AP": 2}
    assert summary["labels"]["Edema"] == {"positive": 1, "uncertain": 1, "negative": 1, "missing": 1}
    assert set(summary["labels"]) == set(LABELS)
    assert summary["report_words"] == {"min": 1, "q1": 1.75, "median": 2, "q3": 2.25, "max": 3}
    assert summary["duplicate_reports"] == {"texts": 1, "studies": 2}
    assert summary["missing"] == {"view": 1, "sex": 2, "age": 5}
    assert summary["rejects"] == {"empty-report": 1}
    assert sum(part["images"] for part in summary["splits"].values()) == 5
    assert sum(part["patients"] for part in summary["splits"].values()) == 3


def note(cohort):
    return {
        "name": cohort.name,
        "kind": cohort.kind,
        "root": str(cohort.root),
        "options": json.loads(json.dumps(cohort.options)),
    }


def test_source_reads_images_and_reports_again(made, tmp_path):
    root = made(rows(study_id=list("uvwxyz")))
    cohort = folder.read(root)
    confirmed.confirm(cohort.root)
    source = source_for(note(cohort))
    row = cohort.records.iloc[2].to_dict()
    np.testing.assert_array_equal(source.read_image(row).pixels, cohort.read_image(row).pixels)
    assert source.read_report("w") == row["report"]
    assert source.read_report("w", report_key="0" * 16) is None
    assert source.read_report("nobody") is None
    with pytest.raises(ImageError, match="leaves"):
        source.read_image({"record_id": "x", "image": "../x.png"})
    assert source_for(note(cohort), {"w": "stored"}).read_report("w") == "stored"

    gone = source_for({**note(cohort), "root": str(tmp_path / "gone")})
    with pytest.raises(ImageError) as caught:
        gone.read_image(row)
    assert caught.value.reason == "missing-file"
    assert caught.value.remedy
    assert gone.read_report("w") is None


# Any bytes at all


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
    cut=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_manifests_give_a_cohort_or_an_input_error(made, edits, cut):
    data = bytearray(rows(report=['a "b"', "c,d", "e\nf", "g", "ü", ""]).to_csv(index=False).encode())
    for where, value in edits:
        data[int(where * len(data))] = value
    root = made(bytes(data[: int(len(data) * cut)]))
    try:
        cohort = folder.read(root)
    except InputError as error:
        assert error.remedy  # noqa: PT017
    else:
        table = read_manifest(root / "manifest.csv")
        assert len(cohort.records) + len(cohort.rejects) == len(table)
        assert cohort.records["record_id"].is_unique


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=3, max_size=3), min_size=1
    )
)
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_a_csv(tmp_path, cells):
    path = tmp_path / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["a", "b", "c"], *cells])
    assert read_manifest(path).to_numpy().tolist() == cells


@given(st.text())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_fields_take_any_text(text):
    assert fields.view(text) in ("PA", "AP", "LATERAL", "")
    assert fields.sex(text) in ("M", "F", "")
    years = fields.age(text)
    assert np.isnan(years) or 0 <= years <= 120


def test_whether_images_are_there_is_told_as_one_by_one(made, tmp_path):
    root = made(rows())
    outside = tmp_path.parent / f"{tmp_path.name}-beside"
    picture(outside / "0.png")
    (root / "linked").symlink_to(outside)
    (root / "within").symlink_to(root / "images")
    (root / "images" / "link.png").symlink_to(root / "images" / "0.png")
    present = files.Present(root)
    for image in (
        *("images/0.png", "images/none.png", "images", "images/", "", ".", "within/0.png", "linked/0.png"),
        *("images/link.png", "images/../images/0.png", f"../{outside.name}/0.png", str(root / "images" / "0.png")),
        *("./images/0.png", "images//0.png", "images/0.png/x", "nowhere/0.png", "images/\0.png", "x" * 5000),
    ):
        one, other = present.problem(image), files.image_problem(root, image)
        assert (one and (one.reason, one.what)) == (other and (other.reason, other.what)), image


def test_many_contradictions_take_no_longer(made):
    """Rows that contradict each other are named in one pass, not one pass a row."""
    n = 4000
    table = pd.DataFrame(
        {
            "image": "images/0.png",
            "record_id": [f"r{i}" for i in range(n)],
            "report": [f"Report {i}" for i in range(n)],
            "patient_id": [f"p{i // 2}" for i in range(n)],
            "study_id": [f"s{i // 2}" for i in range(n)],
        }
    )
    cohort = folder.read(made(table))
    assert cohort.records.empty
    assert cohort.rejects["reason"].value_counts().to_dict() == {"study-with-two-reports": n}
    assert cohort.rejects["what"].iloc[-1] == "Study 's1999' has 2 different reports."
