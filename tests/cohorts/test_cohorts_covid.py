import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.places import SHARED
from linkage_core.cohorts import covid_chestxray
from linkage_core.cohorts.base import RECORD_COLUMNS
from linkage_core.cohorts.registry import open_cohort
from linkage_core.cohorts.summary import summarise
from linkage_core.errors import InputError

REAL = SHARED / "covid-chestxray"


@pytest.fixture(scope="module")
def real():
    if not REAL.is_dir():
        pytest.skip(f"the COVID-19 image data collection is not at {REAL}")
    return covid_chestxray.read(REAL)


@pytest.fixture
def made(tmp_path):
    def make(**columns):
        table = pd.DataFrame(
            {
                "patientid": ["1", "1", "2", "3", "4"],
                "offset": ["0", "3", "0", "", ""],
                "sex": ["M", "M", "F", "", "F"],
                "age": ["50", "50", "", "200", "61"],
                "finding": ["COVID-19", "COVID-19, ARDS", "No Finding", "ARDS", "Pneumonia/Viral/SARS"],
                "view": ["PA", "L", "AP Supine", "PA", "AP"],
                "folder": "images",
                "filename": ["a.png", "b.png", "c.png", "d.png", "a.png"],
                "license": ["CC BY", "CC BY", "CC BY-SA", "CC BY", "CC BY"],
                "clinical_notes": ["Opacities. ", "Opacities.", "Clear.", "  ", "Other words."],
                "other_notes": ["Credit to A", "Case courtesy of Dr B", " Seen twice.", "Case courtesy of Dr B", ""],
                **columns,
            }
        )
        table.to_csv(tmp_path / "metadata.csv", index=False)
        (tmp_path / "images").mkdir(exist_ok=True)
        for file in ("a.png", "b.png", "c.png", "d.png"):
            Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(tmp_path / "images" / file)
        return tmp_path

    return make


def test_rows_become_records_or_rejects(made):
    cohort = covid_chestxray.read(made())
    records = cohort.records.set_index("record_id")
    assert tuple(cohort.records.columns) == (*RECORD_COLUMNS, "licence")
    assert records.index.tolist() == ["1_a.png", "1_b.png", "2_c.png", "4_a.png"]
    assert cohort.rejects[["item", "reason"]].to_numpy().tolist() == [["3_d.png", "empty-report"]]
    assert records["study_id"].nunique() == 3  # both rows of patient 1 have one note
    assert records["report"].tolist() == ["Opacities.", "Opacities.", "Clear. Seen twice.", "Other words."]
    assert records["view"].tolist() == ["PA", "LATERAL", "AP", "AP"]
    np.testing.assert_array_equal(records["age"], [50, 50, np.nan, 61])
    np.testing.assert_array_equal(records["Pneumonia"], [1, 1, np.nan, 1])
    np.testing.assert_array_equal(records["No Finding"], [np.nan, np.nan, 1, np.nan])
    assert records["licence"].tolist() == ["CC BY", "CC BY", "CC BY-SA", "CC BY"]


def test_patients_with_one_image_file_share_a_split(made):
    root = made()
    for seed in range(20):
        splits = covid_chestxray.read(root, seed=seed).records.groupby("image")["split"].nunique()
        assert splits.max() == 1
    assert summarise(covid_chestxray.read(root))["duplicate_images"] == {
        "files": 1,
        "records": 2,
        "of_several_patients": 1,
    }


def test_what_is_rejected(made):
    cohort = covid_chestxray.read(
        made(
            filename=["a.png", "a.png", "../../c.png", "none.png", ""],
            clinical_notes="Words.",
            patientid=["1", "1", "2", "3", "4"],
        )
    )
    assert cohort.rejects["reason"].tolist() == ["duplicate-record", "outside-root", "missing-file", "missing-file"]
    assert len(cohort.records) == 1


def test_other_layouts_are_refused(made, tmp_path):
    with pytest.raises(InputError, match="no sections"):
        covid_chestxray.read(made(), section="findings")
    (tmp_path / "metadata.csv").write_text("image,report\na,b\n")
    with pytest.raises(InputError, match="no column 'patientid'"):
        covid_chestxray.read(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(InputError, match=r"metadata\.csv"):
        covid_chestxray.read(tmp_path)


def test_the_real_collection(real):
    table = pd.read_csv(REAL / "metadata.csv", dtype="str", keep_default_na=False)
    summary = json.loads(json.dumps(summarise(real)))
    assert len(real.records) + len(real.rejects) == len(table) == 159
    assert summary["rejects"] == {}
    assert summary["patients"] == 82
    # 130 cells differ; two of them, the two views of one study, by blanks at the end only
    assert summary["distinct_reports"] == table["clinical_notes"].str.strip().nunique() == 129
    assert summary["views"] == {"PA": 105, "AP": 31, "LATERAL": 23}
    assert summary["labels"]["No Finding"]["positive"] == 3
    assert summary["duplicate_images"]["of_several_patients"] == 5
    records = real.records
    assert records["record_id"].is_unique
    assert (records["licence"].str.startswith("CC BY")).all()
    assert records.groupby("image")["split"].nunique().max() == 1
    assert records.groupby("study_id")["patient_id"].nunique().max() == 1
    assert records.groupby("study_id")["report"].nunique().max() == 1
    assert not records["report"].str.contains("Radiopaedia|Credit to", case=False).any()


def test_the_real_images_decode(real):
    few = real.records.drop_duplicates("view").head(3)
    for row in few.to_dict("records"):
        assert real.read_image(row).bits == 8


@pytest.mark.soak
def test_every_real_image_decodes(real):
    cohort = open_cohort("covid-chestxray", REAL, check_images=True)
    assert cohort.rejects.empty
    assert set(cohort.seen["notes"]) <= {"few-levels"}  # three scans of 16 shades; nothing else is odd about them
