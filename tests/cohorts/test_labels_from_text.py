"""Labels read from text: every rule by its example, sentences with their labels, other languages, whole cohorts."""

from __future__ import annotations

import csv
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.command import linkage
from helpers.pictures import png
from helpers.places import SHARED
from helpers.toy import toy_arrays, two_each
from linkage_core import confirmed
from linkage_core.audit import study as auditing
from linkage_core.cohorts import openi, table
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels import reading, rules
from linkage_core.cohorts.labels.agreement import agreement
from linkage_core.cohorts.labels.cohort import labels_line, labels_note, with_text_labels
from linkage_core.cohorts.labels.english import foreign, is_english
from linkage_core.cohorts.labels.reading import PATHOLOGIES, labels_of, said, sentences
from linkage_core.cohorts.labels.rules import given
from linkage_core.cohorts.phantom import grammar, population
from linkage_core.cohorts.registry import open_cohort, source_for
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.store.entry import Store

SENTENCES = Path(__file__).with_name("label_sentences.csv")


def findings(report: str) -> dict[str, float]:
    """All labels but "No Finding"."""
    return {label: value for label, value in labels_of(report).items() if label != "No Finding"}


# -------------------------------------------------------------------------------------------------- the table of rules


def test_every_rule_gives_what_its_example_says() -> None:
    wrong = [
        (rule.example, findings(rule.example))
        for some in rules.rules().values()
        for rule in some
        if findings(rule.example) != rule.gives
    ]
    assert not wrong
    assert all(rules.rules().values()), "no kind is without a rule"


def test_no_example_comes_out_right_without_its_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rules.rules()
    idle = []
    for kind, some in whole.items():
        for rule in some:
            monkeypatch.setattr(
                reading, "rules", lambda k=kind, r=rule: whole | {k: tuple(x for x in whole[k] if x is not r)}
            )
            reading._read.cache_clear()
            if findings(rule.example) == rule.gives:
                idle.append((kind, rule.example))
    monkeypatch.undo()
    reading._read.cache_clear()
    assert not idle


def test_sentences_have_the_labels_that_a_person_gave_them() -> None:
    with SENTENCES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = {row["sentence"]: found for row in rows if (found := findings(row["sentence"])) != given(row["gives"])}
    assert not wrong
    values = [value for row in rows for value in given(row["gives"]).values()]
    assert len(rows) >= 180
    assert min(values.count(value) for value in (1.0, 0.0, -1.0)) >= 30


def test_an_odd_row_of_the_table_is_an_error() -> None:
    for text in ("Cardiomegaly 2", "Heart 1", "Edema"):
        with pytest.raises(ValueError, match="is no label with its value"):
            given(text)


# ----------------------------------------------------------------------------------------------------- whole reports


@pytest.mark.parametrize("first", [-1, 1])
def test_affirmed_beats_hedged_beats_denied_in_any_order(first: int) -> None:
    sure, hedged, denied = "Left effusion.", "Possible effusion.", "No effusion."
    for said_, value in (((sure, hedged, denied), 1.0), ((hedged, denied), -1.0), ((denied,), 0.0)):
        assert labels_of(" ".join(said_[::first]))["Pleural Effusion"] == value


def test_no_finding_is_what_chexpert_defines() -> None:
    assert labels_of("Heart size normal. PICC in place.")["No Finding"] == 1
    assert labels_of("Scoliosis. Calcified granuloma.") == {"No Finding": 1.0}, "what is none of the 12 does not count"
    assert "No Finding" not in labels_of("Possible effusion.")
    assert "No Finding" not in labels_of("Old rib fracture.")
    assert labels_of("") == labels_of(" \n-") == {}, "there are no words to read it from"
    assert set(PATHOLOGIES) == set(LABELS) - {"No Finding", "Support Devices"}


def test_what_stands_below_indication_technique_and_comparison_is_not_read() -> None:
    text = "INDICATION: Pneumonia, effusion.\nTECHNIQUE: Chest tube film.\nFINDINGS: Clear lungs.\nIMPRESSION: Edema."
    assert findings(text) == {"Lung Opacity": 0.0, "Edema": 1.0}
    assert findings("REASON FOR EXAM: Rule out fracture. IMPRESSION: No fracture.") == {"Fracture": 0.0}
    assert findings("Lungs: Clear.\nHeart: Normal.\nBones: Rib fracture.") == given(
        "Lung Opacity 0; Cardiomegaly 0; Fracture 1"
    )


def test_lines_that_were_wrapped_are_one_sentence_and_lists_are_many() -> None:
    assert sentences("No focal consolidation or\npleural effusion is seen.") == [
        "no focal consolidation or pleural effusion is seen."
    ]
    assert findings("No pneumothorax\nSmall left effusion\nHeart normal") == given(
        "Pneumothorax 0; Pleural Effusion 1; Cardiomegaly 0"
    )
    assert findings("1. No effusion 2) Pneumonia\n* Edema") == given("Pleural Effusion 0; Pneumonia 1; Edema 1")
    assert findings("NO PNEUMOTHORAX OR\nEFFUSION.") == given("Pneumothorax 0; Pleural Effusion 0")
    assert sentences("A 1.5 cm nodule.") == ["a 1.5 cm nodule."]
    assert [one[1:] for one in said("Edema. No effusion.")] == [("Edema", 1.0), ("Pleural Effusion", 0.0)]


def test_a_sentence_without_end_is_read_in_parts() -> None:
    """No report takes the square of its length: a sentence is cut after some 2,000 characters, between words."""
    parts = sentences("effusion and " * 1_000)
    assert len(parts) == 7
    assert max(map(len, parts)) <= reading.LONGEST
    assert " ".join(parts).split() == ["effusion", "and"] * 1_000
    for word in ("no ", "with ", "the heart ", "(", "a, ", "  "):
        assert set(findings(word * 1_000)) <= {"Cardiomegaly"}


# ---------------------------------------------------------------------------------------------------------- language

OTHER_LANGUAGES = (
    "Sin evidencia de neumotórax ni derrame pleural. Silueta cardíaca de tamaño normal.",
    "Cardiomegalia. Derrame pleural izquierdo. Consolidación basal derecha.",
    "Herz normal groß. Kein Pleuraerguss. Keine Infiltrate.",
    "Cardiomegalie. Pleuraerguss links. Infiltrat rechts basal.",
    "Pas d'épanchement pleural. Silhouette cardiaque de taille normale. Poumons clairs.",
    "Sem sinais de pneumotórax. Área cardíaca normal.",
    "Assenza di lesioni pleuroparenchimali in atto. Cuore nei limiti.",
    "Geen pleuravocht. Hart niet vergroot. Longen zonder afwijkingen.",
    "Ingen pleuravæske. Hjertet er ikke forstørret.",
    "Inga infiltrat. Hjärtat normalstort.",
    "Płuca bez zmian ogniskowych. Sylwetka serca w normie.",
    "Kalp boyutu normaldir. Plevral efüzyon izlenmedi.",
    "Легкие без очаговых изменений.",
    "両側肺野に異常なし。",
)


def test_other_languages_are_told_from_english() -> None:
    assert [is_english(text) for text in OTHER_LANGUAGES] == [False] * len(OTHER_LANGUAGES)
    assert [is_english(text) for text in ("Clear lungs.", "No acute process.", "XXXX lungs are clear")] == [True] * 3
    assert is_english("Severe ARDS. Person is intubated with an OG in place."), "an abbreviation is no Danish"
    assert is_english("Normal.") is None
    with SENTENCES.open(encoding="utf-8", newline="") as file:
        assert not [row["sentence"] for row in csv.DictReader(file) if is_english(row["sentence"]) is False]


def test_what_is_too_short_goes_with_the_others() -> None:
    assert foreign(["The lungs are clear.", "Normal."]) == [False, False]
    assert foreign([OTHER_LANGUAGES[0], "Normal."]) == [True, True]
    assert foreign(["Normal."]) == [False]


# ----------------------------------------------------------------------------------------------------- whole cohorts

TEXTS = ("Stable cardiomegaly.", "No pneumothorax. Possible effusion.", "Lungs are clear.")


def read_table(tmp_path: Path, reports: tuple[str, ...] = TEXTS, **columns: Any) -> Any:
    records = two_each("t", -(-len(reports) // 2))[: len(reports)].assign(report=list(reports), **columns)
    records.to_csv(tmp_path / "records.csv", index=False)
    return table.read(tmp_path / "records.csv", "mine")


def test_a_cohort_without_labels_gets_them_from_its_reports(tmp_path: Path) -> None:
    bare = read_table(tmp_path)
    assert labels_note(bare)["source"] == "none"
    found = with_text_labels(bare)
    assert found.records["Cardiomegaly"].tolist()[0] == 1
    assert found.records["Pleural Effusion"].tolist()[1] == -1
    assert found.records["Lung Opacity"].tolist()[2] == 0
    assert np.isnan(found.records["Edema"]).all()
    note = labels_note(found)
    assert note["source"] == found.options["labels"] == "from-text"
    assert (note["studies"], note["rules"]) == ({"own": 0, "from-text": 3, "none": 0}, rules.version())
    assert labels_line(note) == "read from the reports by rules"
    assert list(found.records.columns) == list(bare.records.columns)


def test_own_labels_win_by_study_and_by_finding(tmp_path: Path) -> None:
    """t-0 and t-3 have labels of their own, t-1 and t-2 none; nobody is labelled for edema."""
    own = read_table(
        tmp_path,
        ("Stable cardiomegaly. Edema.", "Edema. No pneumothorax.", "Possible edema.", "Lungs are clear."),
        Cardiomegaly=[0, np.nan, np.nan, np.nan],
        Edema=[np.nan, np.nan, np.nan, np.nan],
        Pneumonia=[1, np.nan, np.nan, 1],
    )
    found = with_text_labels(own).records.set_index("record_id")
    assert found.loc["t-0", "Cardiomegaly"] == 0, "not what the text says"
    assert found.loc["t-0", "Pneumonia"] == 1
    assert found.loc["t-0", "Edema"] == 1, "nobody is labelled for edema"
    assert np.isnan(found.loc["t-3", "No Finding"]), "its own pneumonia counts too"
    assert found.loc["t-3", "Lung Opacity"] == 0
    assert found["Edema"].tolist()[:3] == [1, 1, -1]
    assert found.loc["t-1", "Pneumothorax"] == 0
    note = labels_note(with_text_labels(own))
    assert (note["source"], note["studies"]) == ("own and from-text", {"own": 2, "from-text": 4, "none": 0})
    assert "Edema" in note["findings"]
    assert "Pneumonia" not in note["findings"]
    owned = read_table(tmp_path, Edema=[0, np.nan, 1], **{label: 0 for label in LABELS if label != "Edema"})
    whole = with_text_labels(owned)
    pd.testing.assert_frame_equal(whole.records, owned.records)
    assert labels_note(whole)["source"] == "own"


def test_reports_of_other_languages_are_refused_or_left_out_and_counted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 of 3 reports of mine do not look like English, the first of study t-s0"):
        with_text_labels(read_table(tmp_path, (*OTHER_LANGUAGES[:2], "The lungs are clear.")))
    found = with_text_labels(read_table(tmp_path, (*TEXTS, OTHER_LANGUAGES[1])))
    assert found.records[list(LABELS)].iloc[3].isna().all()
    assert labels_note(found)["not_english"] == labels_note(found)["studies"]["none"] == 1
    with pytest.raises(InputError, match="no report text"):
        with_text_labels(read_table(tmp_path, ("", "", "")))


def test_a_folder_reads_them_and_its_store_entry_says_so(tmp_path: Path, store: Store) -> None:
    """Every kind by the same place: the readers know nothing of it."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(Image.new("L", (4, 4))))
    rows = [("a.png", "p1", TEXTS[0]), ("b.png", "p2", TEXTS[1])]
    pd.DataFrame(rows, columns=["image", "patient_id", "report"]).to_csv(tmp_path / "manifest.csv", index=False)
    cohort = open_cohort("folder", tmp_path, labels="from-text")
    assert cohort.records["Cardiomegaly"].tolist()[0] == 1
    assert cohort.options["labels"] == "from-text"
    confirmed.confirm(tmp_path)
    source = source_for({"name": "f", "kind": "folder", "root": str(tmp_path), "options": cohort.options})
    assert source.read_report(cohort.records["study_id"].iloc[0]) == TEXTS[0]
    with pytest.raises(InputError, match="no choice of labels") as caught:
        open_cohort("folder", tmp_path, labels="chexpert")
    assert "from-text" in caught.value.remedy
    entry = import_arrays(cohort, "m", np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), store)
    assert entry.labels_note()["source"] == entry.manifest["cohort"]["labels"]["source"] == "from-text"
    assert entry.records()["Cardiomegaly"].tolist()[0] == 1


def test_an_entry_from_before_says_own_or_none(tmp_path: Path, store: Store) -> None:
    records = two_each("t", 2, Edema=[1, 0, 1, 0])
    records.to_csv(tmp_path / "records.csv", index=False)
    entry = import_arrays(table.read(tmp_path / "records.csv", "mine"), "m", *toy_arrays(records, 1.0), store)
    del entry.manifest["cohort"]["labels"]
    assert labels_line(entry.labels_note()) == "own"
    said_ = auditing.study(entry, pool="same-findings").provenance()
    assert said_["labels"] == "own"


# ----------------------------------------------------------------------------------------------- how well they do


def test_agreement_counts_what_both_sides_say() -> None:
    own = pd.DataFrame(np.nan, index=range(6), columns=list(LABELS))
    read = own.copy()
    own["Edema"], read["Edema"] = [1, 1, 1, 0, np.nan, -1], [1, 1, np.nan, 1, -1, 1]
    rows = agreement(own, read, np.array(list("abcdef"))).set_index(["label", "value"])
    row = rows.loc[("Edema", "positive")]
    assert (row["own"], row["read"], row["both"], row["left_out"]) == (3, 3, 2, 1)
    assert (row["precision"], row["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert row["precision_low"] < 2 / 3 < row["precision_high"]
    assert row["flag"] == "too few to say"
    assert rows.loc[("Edema", "uncertain"), "both"] == 0
    assert np.isnan(rows.loc[("Edema", "negative"), "precision"])
    assert set(rows.index.get_level_values("label")) == {"Edema"}


@pytest.mark.parametrize(("site", "split", "least"), [("A", "attacker", 0.99), ("B", "heldout", 0.97)])
def test_the_phantoms_reports_give_the_labels_of_its_grammar(site: Any, split: str, least: float) -> None:
    """Measured: all right at site A; site B calls consolidation "infiltration", which the rules read as an opacity."""
    studies = list(islice(population.studies_of_split(site, split, population.SEED), 400))
    written = [grammar.report(study, population.SEED) for study in studies]
    own = pd.DataFrame([one.labels for one in written], columns=list(LABELS))
    read = pd.DataFrame([labels_of(one.text) for one in written], columns=list(LABELS))
    known = [label for label in LABELS if site == "A" or label not in ("Consolidation", "Lung Opacity")]
    same = (own[known].fillna(9) == read[known].fillna(9)).to_numpy()
    assert same.mean() > least
    rows = agreement(own, read, np.arange(len(own)))
    rows = rows[rows["label"].isin(known) & (rows["value"] == "positive")]
    assert rows["precision"].mean() > least
    assert rows["recall"].mean() > least
    assert sum(is_english(one.text) is False for one in written) <= len(written) // 100


@pytest.mark.soak
@pytest.mark.skipif(not (SHARED / "openi").is_dir(), reason=f"{SHARED / 'openi'} is not here")
def test_open_i_agrees_as_well_as_was_measured() -> None:
    """Of all 3,826 reports with an image; benchmarks/labels.json has the half that the rules were not tuned on."""
    studies = openi.read(SHARED / "openi").records.drop_duplicates("study_id")
    read = pd.DataFrame([labels_of(report) for report in studies["report"]], columns=list(LABELS))
    rows = agreement(studies[list(LABELS)], read, studies["study_id"].to_numpy(str))
    rows = rows[(rows["value"] == "positive") & (rows["flag"] == "") & (rows["label"] != "No Finding")]
    assert rows["precision"].mean() > 0.84
    assert rows["recall"].mean() > 0.83
    assert not any(is_english(report) is False for report in studies["report"])


# ----------------------------------------------------------------------------------------------------- on the command


def test_the_command_reads_a_table_and_prints_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.DataFrame({"Study_ID": ["s1", "s2", "s3"], "Report": TEXTS, "Cardiomegaly": ["1", "", "0"]})
    rows.to_csv(tmp_path / "reports.csv", index=False)
    assert linkage("labels", tmp_path / "reports.csv", "--out", tmp_path / "out.csv", "--json", tmp_path / "j") == 0
    printed = capsys.readouterr().out
    assert "3 reports read" in printed
    assert "too few to say" in printed
    assert not any(text.lower().rstrip(".") in printed.lower() for text in TEXTS)
    out = pd.read_csv(tmp_path / "out.csv")
    assert out["study_id"].tolist() == ["s1", "s2", "s3"]
    assert out["Cardiomegaly"].tolist()[0] == 1
    assert list(out.columns[3:]) == list(LABELS)
    told = json.loads((tmp_path / "j").read_text())
    assert told["labels"]["Pleural Effusion"]["uncertain"] == 1
    assert {row["value"] for row in told["agreement"] if row["label"] == "Cardiomegaly"} >= {"positive", "negative"}
    assert linkage("labels", tmp_path / "reports.csv", "--examples") == 0
    assert "Cardiomegaly, positive: stable cardiomegaly." in capsys.readouterr().out


def test_the_command_refuses_what_it_cannot_read(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"text": TEXTS}).to_csv(tmp_path / "no.csv", index=False)
    pd.DataFrame({"report": OTHER_LANGUAGES}).to_csv(tmp_path / "other.csv", index=False)
    records = two_each("t", 2)
    records.to_csv(tmp_path / "records.csv", index=False)
    arrays = toy_arrays(records, 1.0)
    import_arrays(table.read(tmp_path / "records.csv", "mine"), "m", *arrays, store)
    for what, named in (
        (tmp_path / "no.csv", "no column 'report'"),
        (tmp_path / "other.csv", "do not look like English"),
        (tmp_path / "nowhere.csv", "There is no"),
        ("mine", "are not at hand"),
        ("yours", "no cohort 'yours'"),
    ):
        assert linkage("labels", what, "--store", store.root) == 2
        assert named in " ".join(capsys.readouterr().err.split())
    import_arrays(table.read(tmp_path / "records.csv", "mine"), "m", *arrays, store, store_text=True)
    assert linkage("labels", "mine", "--store", store.root) == 0


def test_imported_records_take_labels_from_text_and_every_table_says_so(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    records = two_each("t", 40).assign(report=[TEXTS[i % 3] + f" Film {i}." for i in range(80)])
    records.to_csv(tmp_path / "records.csv", index=False)
    images, texts = toy_arrays(records, 1.0)
    np.save(tmp_path / "i.npy", images)
    np.save(tmp_path / "t.npy", texts)
    arrays = ("--image", tmp_path / "i.npy", "--text", tmp_path / "t.npy", "--records", tmp_path / "records.csv")
    assert linkage("import", "mine/m", *arrays, "--labels", "from-text", "--store", store.root) == 0
    assert "Labels: read from the reports by rules." in capsys.readouterr().out
    entry = store.open("mine", "m")
    assert entry.records()["Cardiomegaly"].eq(1).sum() == 27
    assert entry.manifest["cohort"]["options"]["labels"] == "from-text"
    asked = ("--hard-negatives", "--pool-size", 5, "--k", 1)
    assert linkage("audit", "mine/m", *asked, "--store", store.root) == 0
    assert "Labels: read from the reports by rules." in " ".join(capsys.readouterr().out.split())
    assert linkage("import", "mine/n", *arrays, "--store", store.root) == 0
    assert "Labels: none." in capsys.readouterr().out
