"""The phantom's people: sizes and separation of the splits, ids that regenerate, studies that follow one another."""

import numpy as np
import pytest

from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS
from linkage_core.cohorts.phantom import population, read, report_of, scene_of
from linkage_core.cohorts.phantom.population import PATIENTS, Draws, patient_studies, studies_of_split
from linkage_core.cohorts.phantom.scene import DEVICE_KINDS, FINDING_KINDS
from linkage_core.errors import InputError


@pytest.fixture(scope="module")
def heldout() -> list[population.Study]:
    return list(studies_of_split("A", "heldout"))


def test_no_patient_is_in_two_splits() -> None:
    for splits in PATIENTS.values():
        numbers = [number for patients in splits.values() for number in patients]
        assert len(numbers) == len(set(numbers))


def test_heldout_has_ten_thousand_studies_of_four_thousand_patients(heldout: list[population.Study]) -> None:
    assert len(heldout) >= 10_000
    assert len({study.patient for study in heldout}) >= 4_000
    images = sum(len(study.views) for study in heldout)
    assert 12_000 < images < 13_500
    two_views = np.mean([len(study.views) == 2 for study in heldout])
    assert 0.2 < two_views < 0.3


def test_the_other_splits_have_the_promised_sizes() -> None:
    pairs = {split: sum(len(s.views) for s in studies_of_split("A", split)) for split in ("encoder", "attacker")}
    assert pairs["encoder"] >= 20_000
    assert 10_000 <= pairs["attacker"] < 11_500
    assert len(PATIENTS["A"]["finetune"]) >= 30_000
    assert sum(1 for _ in studies_of_split("A", "finetune")) >= 60_000
    assert 2_700 < sum(1 for _ in studies_of_split("B", "heldout")) < 3_300


def test_a_patient_keeps_one_build_and_findings_carry_over(heldout: list[population.Study]) -> None:
    follow_ups = [study for study in heldout if study.number > 1]
    for study in follow_ups[:500]:
        before = patient_studies("A", study.patient)[study.number - 2]
        assert study.anatomy == before.anatomy
        kept = {f.seed for f in study.findings} & {f.seed for f in before.findings}
        assert kept == {f.seed for f, change in zip(study.findings, study.changes, strict=True) if change != "new"}
    assert np.mean([bool(study.resolved) for study in follow_ups]) > 0.1
    assert max(study.number for study in heldout) <= 8


def test_scenes_stay_within_the_contract(heldout: list[population.Study]) -> None:
    for study in heldout[:1500]:
        assert 18 <= study.anatomy.age <= 95
        assert 0.40 <= study.anatomy.heart_size <= 0.50
        assert {finding.kind for finding in study.findings} <= set(FINDING_KINDS)
        assert {device.kind for device in study.devices} <= set(DEVICE_KINDS)
        assert all(
            0 < finding.severity <= 1 and abs(finding.x) <= 1 and abs(finding.y) <= 1 for finding in study.findings
        )
        for view in study.views:
            scene = population.scene(study, view)
            assert abs(scene.rotation) <= 6
            assert abs(scene.exposure) <= 1
            assert 0 <= scene.inspiration <= 1


def test_an_id_is_enough_to_regenerate_scene_and_report() -> None:
    records = read(split="heldout", patients=30).records
    patient_studies.cache_clear()
    for row in records.sample(20, random_state=0).itertuples():
        assert report_of(row.study_id) == row.report
        scene = scene_of(row.record_id)
        assert (scene.view, scene.anatomy.sex, float(scene.anatomy.age)) == (row.view, row.sex, row.age)
        assert scene == scene_of(row.record_id)


def test_another_seed_gives_other_people() -> None:
    first, second = read(split="attacker", patients=20).records, read(split="attacker", patients=20, seed=1).records
    assert first["report"].head(15).tolist() != second["report"].head(15).tolist()


def test_reports_do_not_move_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    before = scene_of("A-400003-1-PA") if "PA" in patient_studies("A", 400_003)[0].views else None
    study = patient_studies("A", 400_003)[0]
    scene = population.scene(study, study.views[0])
    draws = population.report_draws(study, 0)
    for _ in range(200):
        draws.uniform()
    assert population.scene(study, study.views[0]) == scene
    assert before is None or before == scene


def test_records_have_the_common_columns() -> None:
    cohort = read("B", patients=10)
    assert tuple(cohort.records.columns) == RECORD_COLUMNS
    assert (cohort.name, cohort.kind, cohort.synthetic, cohort.default_split) == ("phantom-site-b",) * 2 + (
        True,
        "heldout",
    )
    assert set(cohort.records["split"]) == {"heldout"}
    assert cohort.records["record_id"].is_unique
    values = cohort.records[list(LABELS)].to_numpy().ravel()
    assert set(values[~np.isnan(values)]) <= {-1.0, 0.0, 1.0}
    both = read(patients=10).records
    assert set(both["split"]) == {"heldout", "attacker"}
    assert not set(both.query("split == 'attacker'")["view"]) & {"LATERAL"}


@pytest.mark.parametrize(
    "identifier", ["A-400000-99-PA", "A-1-1-PA", "C-400000-1-PA", "A-400000-1-XX", "A-400000", "", "A-400000-1"]
)
def test_an_id_that_is_not_there_is_named(identifier: str) -> None:
    with pytest.raises(InputError) as caught:
        scene_of(identifier)
    assert caught.value.remedy
    assert identifier in caught.value.what or "patient" in caught.value.what


@pytest.mark.parametrize(("site", "split"), [("C", "all"), ("A", "encoder"), ("A", "test"), ("B", "attacker")])
def test_an_unknown_site_or_split_is_refused(site: str, split: str) -> None:
    with pytest.raises(InputError):
        read(site, split)  # type: ignore[arg-type]


def test_draws_repeat_and_spread() -> None:
    assert [Draws(1, 2).uniform() for _ in range(3)] == [Draws(1, 2).uniform()] * 3
    draws = Draws(7)
    normal = np.array([draws.normal(2, 3) for _ in range(4000)])
    assert abs(normal.mean() - 2) < 0.2
    assert abs(normal.std() - 3) < 0.2
    picks = [draws.weighted("ab", (1, 3)) for _ in range(4000)]
    assert abs(picks.count("b") / 4000 - 0.75) < 0.03
