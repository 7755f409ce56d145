"""The ledger: budgets hold whatever happens, nothing is changed unseen, nobody is named."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linkage_core.errors import InputError, StoreError
from linkage_core.mitigation import accounting
from linkage_core.release import bounds
from linkage_core.release.ledger import Ledger

PATIENTS = [f"patient-{i:03d}" for i in range(40)]
DELTA = 1e-6
EPSILON = 1.0
LIFT = 100.0
COHORT = "clinic"


def mu_of(epsilon: float) -> float:
    return 1 / accounting.gaussian_sigma(epsilon, DELTA)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "ledger.sqlite", COHORT, PATIENTS, epsilon=EPSILON, delta=DELTA, lift=LIFT)


def query(ledger: Ledger, epsilon: float = 0.3, patients: list[str] | None = None, **options: Any) -> Any:
    return ledger.charge("statistics", {"epsilon": epsilon}, patients or PATIENTS, mu=mu_of(epsilon), **options)


# ------------------------------------------------------------------------------------------------------- arithmetic


def test_queries_add_up_in_squares_and_records_multiply(ledger: Ledger) -> None:
    query(ledger, 0.3)
    query(ledger, 0.5, PATIENTS[:10])
    ledger.charge("capped", {"limit": 3}, [*PATIENTS[:5], PATIENTS[0]], lift=3.0)
    spent = ledger.spent(PATIENTS)
    both = bounds.compose_mu([mu_of(0.3), mu_of(0.5)])
    assert spent.mu == pytest.approx([both] * 10 + [mu_of(0.3)] * 30)
    assert spent.lift == pytest.approx([9.0] + [3.0] * 4 + [1.0] * 35)
    assert spent.epsilon[0] == pytest.approx(accounting.gaussian_epsilon(1 / both, DELTA))
    assert spent.lift_left == pytest.approx(LIFT / 9)
    assert spent.mu_left == pytest.approx(math.sqrt(mu_of(EPSILON) ** 2 - both**2))
    history = ledger.history()
    assert history["n_patients"].tolist() == [40, 10, 5]
    assert history["n_records"].tolist() == [0, 0, 6]
    assert history["number"].tolist() == [1, 2, 3]
    assert ledger.verify() == []


def test_a_query_is_told_the_sum_of_all_that_left_before_and_records_that_of_their_patients(ledger: Ledger) -> None:
    """Who was in an earlier release must not show in what a query says of itself, so it counts the whole book."""
    query(ledger, 0.3, PATIENTS[:5])
    query(ledger, 0.4, PATIENTS[5:10])
    ledger.charge("capped", {}, PATIENTS[:5], lift=3.0)
    ledger.charge("codes", {}, [PATIENTS[7]] * 2, lift=2.0)
    both = bounds.compose_mu([mu_of(0.3), mu_of(0.4)])
    for patients in (PATIENTS[10:], PATIENTS[:1]):
        assert query(ledger, 0.01, patients).parameters["before"] == pytest.approx({"mu": both, "lift": 12.0}, rel=1e-3)
    for patients, mu, lift in ((PATIENTS[1:7], mu_of(0.4), 3.0), (PATIENTS[7:8], mu_of(0.4), 4.0)):
        told = ledger.charge("codes", {}, patients, lift=1.5).parameters["before"]
        assert told == pytest.approx({"mu": mu, "lift": lift}), "the most of one patient, not of all"


def test_the_budget_can_be_spent_to_the_end_and_not_beyond(ledger: Ledger) -> None:
    query(ledger, EPSILON)
    with pytest.raises(InputError, match=r"40 of its 40 patients .* least is epsilon 0 of 1"):
        query(ledger, 0.01)
    ledger.charge("codes", {}, PATIENTS[:1] * 2, lift=10.0)
    with pytest.raises(InputError, match="lift of 1 of 100"):
        ledger.charge("codes", {}, PATIENTS[:2], lift=1.01)
    ledger.charge("codes", {}, PATIENTS[1:2], lift=LIFT)
    ledger.charge("codes", {}, PATIENTS[:3], lift=1.0)
    assert len(ledger.history()) == 4


def test_one_patient_over_budget_stops_all_and_nothing_is_charged(ledger: Ledger) -> None:
    query(ledger, 0.9, PATIENTS[:1])
    before = ledger.spent(PATIENTS).mu
    with pytest.raises(InputError, match=r"1 of its 40 patients") as refused:
        query(ledger, 0.9)
    assert not any(name in str(refused.value) for name in PATIENTS)
    assert np.array_equal(ledger.spent(PATIENTS).mu, before)
    assert len(ledger.history()) == 1


def test_records_of_one_patient_are_charged_each(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="a lift of up to 1000 a patient"):
        ledger.charge("capped", {}, [PATIENTS[0]] * 3, lift=10.0)
    ledger.charge("capped", {}, [PATIENTS[0]] * 2, lift=10.0)


# --------------------------------------------------------------------------------------------------- the same again


def test_the_same_keyed_release_costs_nothing_and_gives_the_first_entry(ledger: Ledger) -> None:
    def again(**change: Any) -> Any:
        said = {"mechanism": "capped", "parameters": {"limit": 3, "p": 0.5}, "patients": PATIENTS, "lift": 3.0}
        return ledger.charge(**{**said, "keyed": ("secret", "images"), **change})

    first, second = again(), again()
    assert (first.repeated, second.repeated) == (False, True)
    assert (second.number, second.digest) == (first.number, first.digest)
    assert ledger.spent(PATIENTS).lift == pytest.approx(3.0)
    # other order of the same, and of the parameters
    assert again(patients=PATIENTS[::-1], parameters={"p": 0.5, "limit": 3}).repeated
    changes: list[dict[str, Any]] = [
        {"keyed": ("other secret", "images")},
        {"keyed": ("secret", "other images")},
        {"mechanism": "other"},
        {"parameters": {"limit": 3, "p": 0.4}},
    ]
    for i, change in enumerate(changes[:3]):
        assert not again(**change).repeated
        assert ledger.spent(PATIENTS).lift == pytest.approx(3.0 ** (i + 2))
    with pytest.raises(InputError, match="have not so much left"):
        again(**changes[3])
    assert again().repeated  # also where nothing is left
    assert ledger.verify() == []


def test_the_same_images_at_another_price_are_another_release(ledger: Ledger) -> None:
    keyed = ("secret", "images")
    for cost in ({"lift": 2.0}, {"lift": 3.0}, {"mu": 0.1}, {"mu": 0.2}):
        assert not ledger.charge("capped", {}, PATIENTS, keyed=keyed, **cost).repeated
        assert ledger.charge("capped", {}, PATIENTS, keyed=keyed, **cost).repeated
    spent = ledger.spent(PATIENTS)
    assert spent.lift == pytest.approx(6.0)
    assert spent.mu == pytest.approx(math.hypot(0.1, 0.2))


def test_a_query_with_fresh_noise_is_charged_each_time(ledger: Ledger) -> None:
    query(ledger)
    assert not query(ledger).repeated
    assert ledger.spent(PATIENTS).mu == pytest.approx(math.sqrt(2) * mu_of(0.3))


# --------------------------------------------------------------------------------------------------------- nobody


def test_no_patient_is_named_in_the_file_or_in_what_is_exported(ledger: Ledger) -> None:
    charge = query(ledger, patients=PATIENTS[:3])
    with pytest.raises(InputError, match="2 of 3 patients are unknown") as refused:
        query(ledger, patients=[PATIENTS[0], "somebody", "else"])
    assert "linkage ledger add" in refused.value.remedy
    assert "somebody" not in str(refused.value)
    exported = ledger.history().to_csv() + repr(charge) + repr(ledger.spent(PATIENTS[:2]))
    content = ledger.path.read_bytes()
    for name in PATIENTS:
        assert name not in exported
        assert name.encode() not in content
    assert ledger.path.stat().st_mode & 0o077 == 0
    assert ledger.path.with_name("ledger.sqlite.key").stat().st_mode & 0o077 == 0


def test_who_has_the_file_without_its_key_cannot_look_anybody_up(ledger: Ledger, tmp_path: Path) -> None:
    """Names are few and easily guessed: a hash without a key would name them all, and join the books of two sites."""
    other = Ledger.create(tmp_path / "other.sqlite", COHORT, PATIENTS, epsilon=EPSILON, delta=DELTA, lift=LIFT)
    held = []
    for one in (ledger, other):
        book = sqlite3.connect(one.path)
        held.append({bytes(found) for (found,) in book.execute("SELECT hash FROM patients")})
        book.close()
    assert len(held[0]) == len(held[1]) == len(PATIENTS)
    assert not held[0] & held[1]


# --------------------------------------------------------------------------------------------------------- altered


def without_triggers(path: Path, *statements: str) -> None:
    """What somebody does who has the file and no scruples."""
    book = sqlite3.connect(path)
    for (name,) in book.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        book.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        book.execute(statement)
    book.commit()
    book.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET mu = 0.01 WHERE number = 1",
        "DELETE FROM entries WHERE number = 2",
        "UPDATE charges SET mu2 = 0 WHERE number = 1",
        "DELETE FROM charges",
        "INSERT OR REPLACE INTO charges VALUES (1, 0, 0, 0)",
        "INSERT OR REPLACE INTO entries SELECT 1, time, mechanism, '{}', mu, lift, identity, n_patients, n_records, "
        "charges, digest FROM entries WHERE number = 1",
        "UPDATE site SET value = '1000' WHERE name = 'epsilon'",
        "INSERT OR REPLACE INTO site VALUES ('lift', '1e9')",
        "DELETE FROM patients WHERE place = 3",
        "UPDATE patients SET hash = zeroblob(32) WHERE place = 3",
    ],
)
def test_rows_cannot_be_changed_and_where_they_are_it_shows(ledger: Ledger, statement: str) -> None:
    query(ledger)
    query(ledger)
    query(ledger, patients=PATIENTS[:2])
    book = sqlite3.connect(ledger.path)
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        book.execute(statement)
    book.close()
    assert ledger.verify() == []
    without_triggers(ledger.path, statement)
    found = ledger.verify()
    assert "triggers" in found[0]
    assert len(found) > 1


def test_a_row_added_by_hand_shows(ledger: Ledger) -> None:
    query(ledger)
    book = sqlite3.connect(ledger.path)
    book.execute("INSERT INTO charges VALUES (9, 0, -5.0, 0)")
    book.commit()
    assert "belong to no entry" in ledger.verify()[0]
    book.execute("INSERT INTO charges VALUES (1, 99, -5.0, 0)")
    book.commit()
    book.close()
    assert any("charges of entry 1 were altered" in one for one in ledger.verify())


def test_an_entry_of_another_past_shows(ledger: Ledger) -> None:
    """Its own hash is right, and its charges too: only what stood before it was something else."""
    query(ledger, 0.1)
    older = ledger.path.read_bytes()
    query(ledger, 0.5)
    query(ledger, 0.2)
    book = sqlite3.connect(ledger.path)
    entry = book.execute("SELECT * FROM entries WHERE number = 3").fetchone()
    charges = book.execute("SELECT * FROM charges WHERE number = 3").fetchall()
    book.close()
    ledger.path.write_bytes(older)
    query(ledger, 0.01)
    assert ledger.verify() == []
    book = sqlite3.connect(ledger.path)
    book.execute(f"INSERT INTO entries VALUES ({', '.join('?' * len(entry))})", entry)
    book.executemany("INSERT INTO charges VALUES (?, ?, ?, ?)", charges)
    book.commit()
    book.close()
    assert any("Entry 3, or what stands before it, was altered" in one for one in ledger.verify())


def test_cut_off_entries_show_against_the_digest_in_a_certificate(ledger: Ledger) -> None:
    query(ledger)
    last = query(ledger)
    assert ledger.holds(last.number, last.digest)
    assert not ledger.holds(last.number, "0" * 64)
    without_triggers(ledger.path, "DELETE FROM entries WHERE number = 2", "DELETE FROM charges WHERE number = 2")
    assert not ledger.holds(last.number, last.digest)


def test_a_damaged_file_is_named(ledger: Ledger) -> None:
    query(ledger)
    content = bytearray(ledger.path.read_bytes())
    content[4096 * 2 : 4096 * 4] = os.urandom(4096 * 2)
    ledger.path.write_bytes(bytes(content))
    assert ledger.verify()


def test_nothing_is_charged_or_told_by_a_book_that_was_altered(ledger: Ledger) -> None:
    query(ledger)
    ledger.charge("codes", {}, PATIENTS[:2], lift=2.0)
    kept = ledger.path.read_bytes()
    for statement, said in (
        ("UPDATE site SET value = '99' WHERE name = 'lift'", "budget, the cohort or the list"),
        ("UPDATE entries SET mu = 0.01 WHERE number = 1", "Entry 1, or what stands before it"),
        ("UPDATE charges SET mu2 = 0 WHERE number = 1 AND place = 39", "charges of entry 1"),
        ("UPDATE patients SET place = 77 WHERE place = 39", "list of patients"),
        ("DELETE FROM entries WHERE number = 1", "Entry 1 is missing"),
        ("SELECT 1", "triggers that refuse changes are gone"),
    ):
        ledger.path.write_bytes(kept)
        without_triggers(ledger.path, statement)
        altered = ledger.path.read_bytes()
        for use in (
            lambda: ledger.charge("codes", {}, PATIENTS[5:7], lift=2.0),
            lambda: ledger.add(COHORT, ["new"]),
            lambda: ledger.spent(PATIENTS),
        ):
            with pytest.raises(StoreError, match=rf"not as it was entered: .*{said}"):
                use()
        assert ledger.path.read_bytes() == altered


def test_a_charge_checks_every_entry_only_where_the_book_is_not_as_the_last_one_left_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    real = Ledger._differences
    monkeypatch.setattr(Ledger, "_differences", lambda self, book: checked.append(1) or real(self, book))
    beside = ledger.path.with_name(f"{ledger.path.name}.checked")

    def checks() -> int:
        checked.clear()
        ledger.charge("codes", {}, PATIENTS[:2], lift=1.1, images=[(PATIENTS[0], os.urandom(8))])
        return len(checked)

    assert checks() == 1
    assert [checks(), checks()] == [0, 0]
    ledger.spent(PATIENTS)
    assert not checked
    assert ledger.verify() == []
    assert checked, "verify always checks all"
    other = Ledger.create(ledger.path.with_name("b"), COHORT, PATIENTS, epsilon=EPSILON, delta=DELTA, lift=LIFT)
    for content in (None, "", "0" * 64, "\u00e9", other._state(sqlite3.connect(ledger.path))):
        if content is None:
            beside.unlink()
        else:
            beside.write_text(content, encoding="utf-8")
        assert checks() == 1, content
        assert checks() == 0
    with sqlite3.connect(ledger.path) as book:
        book.execute("INSERT INTO charges VALUES (99, 0, -5.0, 0)")
    with pytest.raises(StoreError, match="belong to no entry"):
        checks()
    assert checked


DAMAGES = (
    "UPDATE entries SET parameters = 'no json'",
    "UPDATE entries SET parameters = '[]'",
    "UPDATE entries SET parameters = '[' || replace(hex(zeroblob(50000)), '0', '[')",
    "UPDATE entries SET parameters = x'00ff'",
    "UPDATE entries SET mu = 'much'",
    "UPDATE entries SET time = x'00'",
    "UPDATE entries SET n_patients = 'all'",
    "UPDATE charges SET mu2 = x'00'",
    "UPDATE charges SET place = 'here' WHERE place = 3",
    "UPDATE patients SET hash = 'text' WHERE place = 3",
    "UPDATE patients SET hash = 1000000000000 WHERE place = 3",
    "UPDATE site SET value = 'much' WHERE name = 'lift'",
    "UPDATE site SET value = x'00' WHERE name = 'epsilon'",
    "UPDATE site SET value = '-1' WHERE name = 'epsilon'",
    "UPDATE site SET value = 'nan' WHERE name = 'lift'",
    "DELETE FROM site WHERE name = 'cohort'",
    "DELETE FROM site WHERE name = 'start'",
    "DELETE FROM site WHERE name = 'key'",
    "UPDATE site SET value = '1' WHERE name = 'schema'",
    "DROP TABLE site",
    "DROP TABLE charges",
)


def test_damaged_values_are_refused_in_words(ledger: Ledger) -> None:
    query(ledger)
    kept = ledger.path.read_bytes()

    def read() -> None:
        Ledger.open(ledger.path, COHORT).history()
        found = ledger.verify()
        assert any("triggers" not in one for one in found), found
        ledger.spent(PATIENTS)

    for statement in DAMAGES:
        ledger.path.write_bytes(kept)
        without_triggers(ledger.path, statement)
        with pytest.raises(StoreError) as refused:
            read()
        assert refused.value.remedy, statement


# ---------------------------------------------------------------------------------------------- patients who came later


def test_patients_who_came_later_are_added_with_the_same_budget(ledger: Ledger) -> None:
    query(ledger, 0.5)
    later = [*PATIENTS, "late-1", "late-2"]
    with pytest.raises(InputError, match="2 of 42 patients are unknown"):
        query(ledger, 0.3, later)
    added = ledger.add(COHORT, later)
    assert added is not None
    assert (added.n_patients, added.n_records, added.mu, added.lift) == (2, 0, None, None)
    assert ledger.add(COHORT, later) is None
    query(ledger, 0.3, later)
    both = bounds.compose_mu([mu_of(0.5), mu_of(0.3)])
    assert ledger.spent(later).mu == pytest.approx([both] * 40 + [mu_of(0.3)] * 2)
    assert ledger.add(COHORT, ["late-3"]) is not None
    assert ledger.history()["mechanism"].tolist() == ["statistics", "patients added", "statistics", "patients added"]
    assert ledger.verify() == []
    with pytest.raises(InputError, match="ledger of the cohort 'clinic', not 'other'"):
        ledger.add("other", later)
    for statement in (
        "UPDATE patients SET hash = zeroblob(32) WHERE place = 41",
        "DELETE FROM patients WHERE place = 42",
        "INSERT INTO patients VALUES (43, zeroblob(32))",
        "DELETE FROM entries WHERE number = 4",
    ):
        kept = ledger.path.read_bytes()
        without_triggers(ledger.path, statement)
        assert any("patients" in one for one in ledger.verify()), statement
        ledger.path.write_bytes(kept)


# -------------------------------------------------------------------------------------------------- without any limit


def test_records_without_limit_are_entered_and_end_the_limits_of_their_patients(ledger: Ledger) -> None:
    def codes(patients: list[str], images: str = "i") -> Any:
        return ledger.charge("codes", {}, patients, lift=2.0, keyed=("secret", images))

    first = codes(PATIENTS[:6])
    gone = ledger.charge("scores", {}, PATIENTS[:5], unlimited=True, keyed=("secret", "i"))
    assert (gone.lift, gone.n_records) == (math.inf, 5)
    assert ledger.charge("scores", {}, PATIENTS[:5], unlimited=True, keyed=("secret", "i")).repeated
    with pytest.raises(
        InputError, match=r"Entry 2 .* records of 2 of these 7 patients .* without any limit \(scores\)"
    ):
        codes(PATIENTS[3:10])
    with pytest.raises(InputError, match="Entry 2"):  # Gaussian noise on records is one too
        ledger.charge("embeddings", {}, PATIENTS[:1], mu=0.01, keyed=("secret", "i"))
    assert codes(PATIENTS[:6]).number == first.number, "what has left is there already"
    assert codes(PATIENTS[5:10]).parameters["before"] == {"mu": 0.0, "lift": 2.0}
    assert query(ledger).parameters["before"] == {"mu": 0.0, "lift": None}
    assert ledger.charge("embeddings", {}, PATIENTS[:6], unlimited=True).parameters["before"]["lift"] is None
    assert ledger.spent(PATIENTS[:1]).lift_left == 1.0
    assert ledger.verify() == []


def test_an_entry_says_what_had_left_before(ledger: Ledger) -> None:
    assert query(ledger, 0.3, PATIENTS[:10]).parameters["before"] == {"mu": 0.0, "lift": 1.0}
    query(ledger, 0.4, PATIENTS[5:15])
    both = bounds.compose_mu([mu_of(0.3), mu_of(0.4)])
    given: dict[str, Any] = {"lift": 3.0, "keyed": ("secret", "i")}
    first = ledger.charge("codes", {}, [*PATIENTS[:8], PATIENTS[0]], **given)
    assert first.parameters["before"] == {"mu": pytest.approx(both), "lift": 1.0}
    second = ledger.charge("capped", {}, PATIENTS[8:20], **given).parameters["before"]
    assert second == {"mu": pytest.approx(both), "lift": 1.0}
    assert ledger.charge("codes", {}, [*PATIENTS[:8], PATIENTS[0]], **given) == first.__class__(
        **{**vars(first), "repeated": True}
    )


def test_what_a_query_says_of_before_is_the_same_with_and_without_a_patient(ledger: Ledger) -> None:
    """The twin looks at the patients of the query: whoever knows the others sees that this one had been released."""
    ledger.charge("codes", {}, [*PATIENTS[:3], PATIENTS[0]], lift=3.0, keyed=("secret", "i"))
    with_, without = (query(ledger, 0.1, some).parameters["before"] for some in (PATIENTS, PATIENTS[1:]))
    assert with_["lift"] == without["lift"] == pytest.approx(9.0)
    with sqlite3.connect(ledger.path) as book:
        twins = [ledger._before(book, np.arange(len(PATIENTS))[some])["lift"] for some in (slice(0, 40), slice(0, 1))]
        by_patient = {ledger._before(book, np.array([i]))["lift"] for i in range(40)}
    assert pytest.approx(9.0) in twins
    assert len(by_patient) > 1, "so it would show"


# ------------------------------------------------------------------------------------------------------- bad input


def test_a_ledger_is_begun_once_and_opened_for_its_cohort(ledger: Ledger, tmp_path: Path) -> None:
    assert Ledger.open(ledger.path, COHORT).epsilon == EPSILON
    with pytest.raises(InputError, match="never begun again"):
        Ledger.create(ledger.path, COHORT, PATIENTS, epsilon=9.0, delta=DELTA, lift=LIFT)
    with pytest.raises(InputError, match="ledger of the cohort 'clinic', not 'other'"):
        Ledger.open(ledger.path, "other")
    with pytest.raises(StoreError, match="no ledger"):
        Ledger.open(tmp_path / "absent")
    (tmp_path / "text.sqlite").write_text("not a database, " * 100)
    (tmp_path / "text.sqlite.key").write_text("00" * 32)
    with pytest.raises(StoreError, match=r"not a database.*from a backup"):
        Ledger.open(tmp_path / "text.sqlite")
    key = ledger.path.with_name("ledger.sqlite.key")
    kept = key.read_text()
    key.write_text("00" * 32)
    with pytest.raises(StoreError, match="another ledger"):
        Ledger.open(ledger.path)
    key.unlink()
    with pytest.raises(StoreError, match="missing"):
        Ledger.open(ledger.path)
    key.write_text(kept)
    assert Ledger.open(ledger.path).verify() == []
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith(".")) == []


@pytest.mark.parametrize(
    "change",
    [
        {"mu": None},
        {"mu": 0.1, "lift": 2.0},
        {"mu": 0.0},
        {"mu": math.inf},
        {"mu": math.nan},
        {"mu": None, "lift": 0.5},
        {"mu": None, "lift": math.inf},
        {"patients": []},
        {"unlimited": True},
        {"mechanism": "patients added"},
    ],
)
def test_a_charge_that_makes_no_sense_is_refused(ledger: Ledger, change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ledger.charge(**{"mechanism": "statistics", "parameters": {}, "patients": PATIENTS, "mu": 0.1, **change})
    assert ledger.history().empty


@pytest.mark.parametrize(
    "change",
    [{"lift": 0.9}, {"lift": math.nan}, {"epsilon": 0.0}, {"epsilon": math.inf}, {"epsilon": math.nan}, {"delta": 0.0}],
)
def test_a_budget_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, float]) -> None:
    (value,) = change.values()
    with pytest.raises(InputError, match=f" {value}|is {value}"):
        Ledger.create(tmp_path / "l", COHORT, PATIENTS, **{"epsilon": 1.0, "delta": DELTA, "lift": 2.0, **change})
    assert not list(tmp_path.iterdir())


def test_a_book_of_nobody_is_not_begun(tmp_path: Path) -> None:
    for cohort, patients in (("", PATIENTS), (COHORT, [])):
        with pytest.raises(InputError, match=rf"name is {cohort!r} and it has {len(patients)} patients"):
            Ledger.create(tmp_path / "l", cohort, patients, epsilon=1.0, delta=DELTA, lift=2.0)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------- killed, and two at once

CHARGES = """
import sys
from pathlib import Path
from linkage_core.errors import InputError
from linkage_core.release.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
names = [f"patient-{i:03d}" for i in range(int(sys.argv[3]))]
print("ready", flush=True)
while True:
    try:
        ledger.charge("statistics", {}, names, mu=float(sys.argv[2]))
    except InputError:
        break
    print("charged", flush=True)
"""


def charging(path: Path, mu: float, n: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", CHARGES, str(path), str(mu), str(n)], stdout=subprocess.PIPE, text=True, env=environment
    )


def killed_while_charging(folder: Path, kills: int) -> int:
    """Kill it at random moments after up to two charges; how many entries it made."""
    names = [f"patient-{i:03d}" for i in range(2000)]
    path = folder / "ledger.sqlite"
    ledger = Ledger.create(path, COHORT, names, epsilon=50.0, delta=DELTA, lift=2.0)
    rng = np.random.default_rng(0)
    begun = time.perf_counter()
    ledger.charge("statistics", {}, names, mu=1e-3)
    one_charge = time.perf_counter() - begun
    reported = 1
    for i in range(kills):
        if i % 20 == 19:  # a charge reads all that were made before it
            begun = time.perf_counter()
            ledger.charge("statistics", {}, names, mu=1e-3)
            one_charge, reported = time.perf_counter() - begun, reported + 1
        process = charging(path, 1e-3, len(names))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(rng.integers(0, 3)):
            assert process.stdout.readline() == "charged\n"
            reported += 1
        time.sleep(rng.uniform(0.0, one_charge))
        process.kill()
        reported += process.stdout.read().count("charged")
        process.wait()
        ledger = Ledger.open(path, COHORT)
        assert ledger.verify() == []
        entries = len(ledger.history())
        assert ledger.spent(names).mu == pytest.approx(1e-3 * math.sqrt(entries))  # all patients of each, or none
        assert entries >= reported  # what was reported is on disk
        reported = entries
    ledger.charge("statistics", {}, names, mu=1e-3)
    assert ledger.verify() == []
    return entries - 1


def test_a_kill_leaves_whole_charges_or_none(tmp_path: Path) -> None:
    assert killed_while_charging(tmp_path, 5) > 0


@pytest.mark.soak
def test_a_kill_leaves_whole_charges_or_none_many_times(tmp_path: Path) -> None:
    assert killed_while_charging(tmp_path, 200) > 100


def two_at_once(ledger: Ledger, mu: float) -> list[int]:
    """How often each of two processes was allowed to charge all that there is."""
    both = [charging(ledger.path, mu, len(PATIENTS)) for _ in range(2)]
    return [process.communicate(timeout=60)[0].count("charged") for process in both]


def test_two_at_once_do_not_overspend(ledger: Ledger) -> None:
    allowed = two_at_once(ledger, mu_of(EPSILON) / math.sqrt(30))
    assert sum(allowed) == 30
    assert len(ledger.history()) == 30
    assert ledger.verify() == []


def test_a_ledger_that_looks_before_it_locks_is_caught(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: budgets are read before the transaction begins. Another charge comes in between."""
    honest: Callable[..., Any] = Ledger._require_left
    read = Ledger._sums
    stale: list[tuple[np.ndarray, np.ndarray]] = []

    def early(self: Ledger, book: sqlite3.Connection, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return stale[0] if stale else read(self, book, places)

    with sqlite3.connect(ledger.path) as book:
        stale.append(read(ledger, book, np.arange(len(PATIENTS))))
    query(ledger, EPSILON)
    monkeypatch.setattr(Ledger, "_sums", early)
    assert Ledger._require_left is honest
    query(ledger, EPSILON)  # allowed, wrongly
    monkeypatch.undo()
    assert ledger.spent(PATIENTS).mu.max() > mu_of(EPSILON) * 1.4


def test_many_patients_are_charged_at_once(tmp_path: Path) -> None:
    names = np.array([f"p{i}" for i in range(126_804)])
    ledger = Ledger.create(tmp_path / "large", COHORT, names, epsilon=1.0, delta=1e-7, lift=1e3)
    charge = ledger.charge("capped", {"limit": 2}, np.concatenate([names, names, names]), lift=2.0)
    assert (charge.n_patients, charge.n_records) == (126_804, 380_412)
    assert json.loads(ledger.history().to_json(orient="records"))[0]["lift"] == 2.0
    assert ledger.verify() == []
