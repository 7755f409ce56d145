"""A release folder: what is in it, what it says, that nothing leaves unpaid, and that nothing can be slipped in."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.release_store import MODEL, build
from helpers.shared import Built
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.release import bounds, certificate, folder, records
from linkage_core.release.keyed import Secret
from linkage_core.release.kinds import capped, codes, statistics
from linkage_core.release.ledger import Ledger
from linkage_core.release.make import Options, make
from linkage_core.release.table import KINDS
from linkage_core.store.entry import Entry, Store

CAPPED, CODES, EMBEDDINGS, SCORES, STATISTICS = "capped", "codes", "embeddings", "scores", "statistics"
LIMIT = 8


@pytest.fixture(scope="module")
def store(built: Built) -> Store:
    return Store(built(build))


@pytest.fixture(scope="module")
def toy(store: Store) -> Entry:
    return store.open("toy", MODEL)


@pytest.fixture(scope="module")
def asked(store: Store, toy: Entry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Options]:
    """One request of each kind, and of codes and capped with a label."""
    secret = tmp_path_factory.mktemp("secret") / "secret"
    Secret.create(secret, toy.cohort)
    public = store.open("open", MODEL)
    kinds = {
        CODES: Options(CODES, limit=LIMIT, public=public, secret=secret),
        CAPPED: Options(CAPPED, limit=LIMIT, secret=secret),
        SCORES: Options(SCORES, public=public, secret=secret),
        EMBEDDINGS: Options(EMBEDDINGS, secret=secret),
        "noisy": Options(EMBEDDINGS, noise=0.5, secret=secret),
        STATISTICS: Options(STATISTICS, epsilon=1.0, public=public),
    }
    return kinds | {f"{kind}+label": replace(kinds[kind], one_label=True) for kind in (CODES, CAPPED)}


@pytest.fixture(scope="module")
def made(toy: Entry, asked: dict[str, Options], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("made")
    return {name: make(toy, root / name, options).path for name, options in asked.items()}


def content_of(path: Path) -> dict[str, Any]:
    return json.loads((path / folder.CERTIFICATE).read_text())


# -------------------------------------------------------------------------------------------------- what is in it


def test_every_kind_holds_its_files_and_columns_alone(made: dict[str, Path]) -> None:
    for name, path in made.items():
        kind = folder.check(path).kind
        assert {one.name for one in path.iterdir()} == {*KINDS[kind].data_files, folder.CERTIFICATE, folder.PAGE}, name
        if kind != STATISTICS:
            labels = list(records.LABEL_COLUMNS) if "+label" in name else []
            schema = pq.read_schema(path / records.TABLE)
            assert schema.names == ["record", KINDS[kind].column.name, *labels]
            assert not schema.metadata


def test_nothing_of_the_store_is_in_the_bytes(made: dict[str, Path], toy: Entry) -> None:
    table = toy.records()
    words = {
        str(one) for column in ("record_id", "patient_id", "study_id", "report_key", "split") for one in table[column]
    }
    for path in made.values():
        for file in path.iterdir():
            held = file.read_bytes()
            if file.suffix == ".parquet":
                shown = pq.read_table(file).to_pylist()
                held += json.dumps(shown).encode()
            assert not [word for word in words if word.encode() in held], file


def test_rows_do_not_follow_the_store_and_numbers_do_not_join_releases(made: dict[str, Path], toy: Entry) -> None:
    numbers = {
        name: pq.read_table(path / records.TABLE).column("record").to_pylist()
        for name, path in made.items()
        if name != STATISTICS
    }
    for one, other in itertools.combinations(numbers.values(), 2):
        assert not set(one) & set(other)
    assert all(rows == sorted(rows) for rows in numbers.values())
    clean = records.read_vectors(made[EMBEDDINGS])
    place = np.argmax(clean @ records.gather(toy).embeddings.T, axis=1)
    assert sorted(place) == list(range(len(place))), "each record is in it once"
    steps = np.abs(np.diff(place))
    assert abs(np.corrcoef(place, np.arange(len(place)))[0, 1]) < 0.2
    assert np.median(steps) > len(place) / 6


def test_the_data_are_what_the_mechanism_says(made: dict[str, Path], asked: dict[str, Options], toy: Entry) -> None:
    source = records.gather(toy)
    secret = Secret.read(asked[CAPPED].secret, toy.cohort)
    clean, vectors = records.read_vectors(made[EMBEDDINGS]), records.read_vectors(made[CAPPED])
    assert np.allclose(sorted((clean @ clean[0]).tolist()), sorted((source.embeddings @ clean[0]).tolist()), atol=1e-5)
    fresh = capped.as_capped(source, secret, LIMIT)
    own = {number: i for i, number in enumerate(fresh.table.column("record").to_pylist())}
    assert list(own) == pq.read_table(made[CAPPED] / records.TABLE).column("record").to_pylist()
    gain = content_of(made[CAPPED])["mechanism"]["gain"]
    order = records._order(secret, source, fresh.purpose, fresh.rows)[1]
    assert (vectors * source.embeddings[order]).sum(axis=1).mean() == pytest.approx(gain, abs=0.03)
    table = pq.read_table(made[CODES] / records.TABLE)
    book = codes.Codebook.read(made[CODES] / codes.CODEBOOK)
    kept = codes.suppress(book.assign(source.embeddings))
    assert np.bincount(table.column("code").to_numpy()).tolist() == np.bincount(kept[kept >= 0]).tolist()


def test_one_label_is_drawn_without_looking_and_stands_beside_its_own_record(
    made: dict[str, Path], asked: dict[str, Options], toy: Entry
) -> None:
    source = records.gather(toy)
    secret = Secret.read(asked[CAPPED].secret, toy.cohort)
    table = pq.read_table(made[f"{CAPPED}+label"] / records.TABLE)
    purpose = records.with_one_label(capped.as_capped(source, secret, LIMIT), source, secret, records.LABELS).purpose
    order = records._order(secret, source, purpose, np.arange(source.n))[1]
    states = records.states_of(source.records)[order]
    which, present = table.column("finding").to_numpy(), table.column("present").to_numpy(zero_copy_only=False)
    assert (states[np.arange(len(which)), which] == 1).tolist() == present.tolist()
    vectors = records.read_vectors(made[f"{CAPPED}+label"])
    alone = capped.as_capped(source, secret, LIMIT)
    assert (vectors * source.embeddings[order]).sum(axis=1).mean() == pytest.approx(alone.mechanism["gain"], abs=0.03)
    other = replace(source, records=source.records.assign(**dict.fromkeys(records.LABELS, 0.0)))
    again = records.with_one_label(alone, other, secret, records.LABELS).table
    assert again.column("finding").to_pylist() == table.column("finding").to_pylist(), "whatever the labels are"
    assert not any(again.column("present").to_pylist())
    assert np.bincount(which, minlength=14).min() > 0.3 * len(which) / 14


def test_the_same_again_is_the_same_to_the_byte(
    made: dict[str, Path], asked: dict[str, Options], toy: Entry, tmp_path: Path
) -> None:
    for name in (CODES, f"{CAPPED}+label", "noisy", SCORES):
        again = make(toy, tmp_path / name, asked[name]).path
        for file in made[name].iterdir():
            assert file.read_bytes() == (again / file.name).read_bytes(), (name, file.name)
    fresh = make(toy, tmp_path / STATISTICS, asked[STATISTICS]).path
    assert (fresh / statistics.SUMS).read_bytes() != (made[STATISTICS] / statistics.SUMS).read_bytes(), "fresh noise"


def test_at_most_so_many_records_of_a_patient(asked: dict[str, Options], toy: Entry, tmp_path: Path) -> None:
    one = make(toy, tmp_path / "one", replace(asked[CAPPED], per_patient=1)).certificate
    assert one.content["cohort"]["most_records_of_a_patient"] == 1
    assert one.content["cohort"]["n_records"] == toy.records()["patient_id"].nunique()
    assert not [said for said in one.content["sentences"] if "multiply" in said]
    assert one.content["certified"][2]["together"] == one.content["certified"][2]["alone"]


# ------------------------------------------------------------------------------------------------------ what it says


def test_figures_are_those_of_the_bounds(made: dict[str, Path]) -> None:
    rows = {name: {row["n"]: row for row in content_of(path)["certified"]} for name, path in made.items()}
    assert rows[CODES][1000]["alone"] == rows[CODES][1000]["joint"] == LIMIT / 1000
    assert rows[CODES][1000]["together"] == pytest.approx(LIMIT**2 / 1000), "two images a patient"
    assert rows[CAPPED][10_000]["alone"] == pytest.approx(LIMIT / 10_000)
    assert rows[CAPPED][10_000]["joint"] > 100 * rows[CAPPED][10_000]["alone"], "jointly it does not hold"
    for kind in (CODES, CAPPED):
        labelled = rows[f"{kind}+label"][1000]
        assert labelled["alone"] == pytest.approx(2 * rows[kind][1000]["alone"])
        assert labelled["together"] == pytest.approx(4 * rows[kind][1000]["together"])
        assert labelled["joint"] > rows[kind][1000]["joint"]
        assert content_of(made[f"{kind}+label"])["limit"] == 2 * LIMIT
    for n in (100, 1000, 10_000):
        assert rows["noisy"][n]["alone"] == pytest.approx(bounds.gaussian(2.0, n))
        assert rows["noisy"][n]["together"] == pytest.approx(bounds.gaussian(2 * math.sqrt(2), n))
        assert rows[EMBEDDINGS][n]["alone"] is rows[SCORES][n]["alone"] is None
        mu = content_of(made[STATISTICS])["mechanism"]["mu"]
        assert rows[STATISTICS][n]["alone"] == pytest.approx(bounds.central(mu, n))
    for one in rows.values():
        for row in one.values():
            for name in ("alone", "joint", "together"):
                assert row[name] is None or 1 / row["n"] <= row[name] <= 1
                assert row[name] is None or row[f"{name}_lift"] == pytest.approx(row[name] * row["n"])


def one_to_one(states: np.ndarray, codes: np.ndarray) -> float:
    """Brute force: the best mean share right for who holds all N releases (code, finding, state) and knows everything
    of the candidates, the finding of each drawn evenly; states (n, findings), codes (n,)."""
    n, n_findings = states.shape
    seen: dict[tuple[Any, ...], np.ndarray] = defaultdict(lambda: np.zeros((n, n)))
    draws = list(itertools.product(range(n_findings), repeat=n))
    orders = list(itertools.permutations(range(n)))
    for drawn, order in itertools.product(draws, orders):
        release = tuple((codes[j], drawn[j], states[j, drawn[j]]) for j in order)
        weights = seen[release]
        weights[range(n), order] += 1
    return sum(table.max(axis=1).sum() for table in seen.values()) / (n * len(draws) * len(orders))


@pytest.mark.parametrize("seed", range(6))
def test_one_to_one_with_a_label_stays_below_the_figure_and_passes_its_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, n_findings = 5, 2
    found = [one_to_one(rng.integers(0, 2, (n, n_findings)), np.zeros(n, int)) for _ in range(3)]
    assert max(found) <= 2 * n_findings / n + 1e-12
    alone = np.array([[0], [0], [1], [1], [1]])
    assert one_to_one(alone, np.zeros(n, int)) == pytest.approx(2 / n), "one finding: two cells, reached"


def test_one_to_one_with_labels_of_several_findings_is_more_than_twice_the_cells() -> None:
    """Why the figure for the whole folder counts findings: two a record would be too small a bound."""
    states = np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]])
    assert one_to_one(states, np.zeros(5, int)) > 2 / 5 + 0.05


def test_sentences_say_for_whom_and_never_too_much(made: dict[str, Path]) -> None:
    for name, path in made.items():
        content, page = content_of(path), (path / folder.PAGE).read_text()
        for word in ("anonym", " safe"):
            assert word not in json.dumps(content).lower()
            assert word not in page.lower()
        first = content["sentences"][0]
        if name.startswith((CODES, CAPPED)):
            limit = 2 * LIMIT if "+label" in name else LIMIT
            assert f"at most {limit}/N, whatever else they know" in first
            assert "an average over records, for one release" in first
        elif name == STATISTICS:
            assert "beyond what they already had" in first
        elif name in (EMBEDDINGS, SCORES):
            assert first.startswith("No limit is certified")
        assert "nothing in this folder is a patient" in content["sentences"][-1]
        limited = content["certified"][0]["alone"] is not None
        assert limited == ("equally likely" in content["holds_for"]) == bool(content["assumptions"])
        assert limited == ("What the limit rests on" in page)
    assert "doubles the limit" in json.dumps(content_of(made[f"{CODES}+label"]))
    assert "doubles the limit" not in json.dumps(content_of(made[CODES]))


def test_reproducible_says_that_nothing_holds(toy: Entry, store: Store, tmp_path: Path) -> None:
    for kind, more in ((CAPPED, {"limit": LIMIT}), (STATISTICS, {"epsilon": 1.0})):
        paths = [make(toy, tmp_path / f"{kind}{i}", Options(kind, reproducible=True, **more)).path for i in range(2)]
        content = content_of(paths[0])
        assert content["sentences"][0].startswith("Synthetic and not private")
        assert content["limit"] is None
        assert content["certified"][0]["alone"] is None
        assert (paths[0] / KINDS[kind].data_files[0]).read_bytes() == (
            paths[1] / KINDS[kind].data_files[0]
        ).read_bytes()
        folder.check(paths[0])


def test_the_page_escapes_and_fetches_nothing(made: dict[str, Path]) -> None:
    from linkage_core.release import page

    content = content_of(made[CODES])
    content["cohort"]["name"] = "<script>alert(1)</script>"
    shown = page.render(certificate.Certificate(content))
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    for word in ("http://", "https://", "<img", "<link", "@import", "url("):
        assert word not in shown
    for said in content["files"].values():
        if said is not content["files"][folder.PAGE]:
            assert said["sha256"] in shown


# ------------------------------------------------------------------------------------------------ paid, then written


def book(toy: Entry, path: Path, **budget: float) -> Ledger:
    patients = toy.records("all")["patient_id"].unique()
    given = {"epsilon": 2.0, "delta": 1e-6, "lift": 1000.0} | budget
    return Ledger.create(path, toy.cohort, patients, **given)


def test_the_ledger_is_charged_as_the_certificate_says_and_the_same_again_costs_nothing(
    toy: Entry, asked: dict[str, Options], tmp_path: Path
) -> None:
    ledger = book(toy, tmp_path / "book")
    patients = toy.records()["patient_id"].unique()
    first = make(toy, tmp_path / "a", replace(asked[CAPPED], ledger=ledger.path))
    assert first.certificate.content["ledger"] == {
        "entry": 1,
        "digest": first.charge.digest,
        "before": {"mu": 0.0, "lift": 1.0},
    }
    assert ledger.holds(1, first.charge.digest)
    assert np.allclose(ledger.spent(patients).lift, LIMIT**2), "two records of each patient"
    again = make(toy, tmp_path / "b", replace(asked[CAPPED], ledger=ledger.path))
    assert again.charge.repeated
    assert np.allclose(ledger.spent(patients).lift, LIMIT**2)
    assert (tmp_path / "a" / folder.CERTIFICATE).read_bytes() == (tmp_path / "b" / folder.CERTIFICATE).read_bytes()
    with pytest.raises(InputError, match="have not so much left"):
        make(toy, tmp_path / "c", replace(asked[f"{CAPPED}+label"], ledger=ledger.path))
    assert not (tmp_path / "c").exists()
    sums = make(toy, tmp_path / "d", replace(asked[STATISTICS], ledger=ledger.path))
    assert ledger.spent(patients).mu.max() == pytest.approx(sums.certificate.content["mechanism"]["mu"])
    noisy = make(toy, tmp_path / "e", replace(asked["noisy"], noise=100.0, ledger=ledger.path))
    assert noisy.charge.mu == pytest.approx(math.sqrt(2) / 100)
    assert ledger.verify() == []


def test_a_failed_write_leaves_the_charge_and_no_folder(
    toy: Entry, asked: dict[str, Options], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = book(toy, tmp_path / "book")
    Secret.create(tmp_path / "secret", toy.cohort)
    wanted = replace(asked[CODES], ledger=ledger.path, secret=tmp_path / "secret")

    def fails(*arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(folder, "write_json", fails)
    with pytest.raises(StoreError, match=r"No space left.*Entry 1 of the ledger stands"):
        make(toy, tmp_path / "out", wanted)
    assert len(ledger.history()) == 1
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {"book", "book.checked", "book.key", "secret"}, "no folder, no leftover"
    monkeypatch.undo()
    assert make(toy, tmp_path / "out", wanted).charge.repeated


def test_a_secret_made_for_a_release_that_was_refused_is_not_left(
    toy: Entry, asked: dict[str, Options], tmp_path: Path
) -> None:
    ledger = book(toy, tmp_path / "book", lift=2.0)
    wanted = replace(asked[CAPPED], secret=tmp_path / "new", new_secret=True, ledger=ledger.path)
    with pytest.raises(InputError, match="have not so much left"):
        make(toy, tmp_path / "out", wanted)
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="exists"):
        make(toy, tmp_path / "out", replace(wanted, secret=asked[CAPPED].secret))
    assert asked[CAPPED].secret.exists(), "one that was there is never removed"


# ------------------------------------------------------------------------------------------------- nothing slipped in


def resign(path: Path, change: Callable[[dict[str, Any]], None] = lambda content: None) -> None:
    """What somebody does who alters a folder and knows how: sizes, hashes and digest anew."""
    content = content_of(path)
    for name in content["files"]:
        content["files"][name] = folder._described(path / name)
    change(content)
    content["digest"] = certificate.digest_of(content)
    (path / folder.CERTIFICATE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def retable(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path / records.TABLE)), path / records.TABLE)


def bend(path: Path) -> None:
    """The first vector twice as long."""
    rows = records.read_vectors(path).copy()
    rows[0] *= 2
    retable(path, lambda table: table.set_column(1, "vector", records.lists(rows)))


def one_in_a_cell(table: pa.Table) -> pa.Table:
    cells = table.column("code").to_numpy().copy()
    cells[cells == cells[0]] = (cells[0] + 1) % LIMIT
    cells[0] = (cells[0] - 1) % LIMIT
    return table.set_column(1, "code", pa.array(cells, pa.int32()))


def add_age(table: pa.Table) -> pa.Table:
    return table.append_column("age", pa.array(np.arange(len(table))))


ALTERED: dict[str, tuple[str, Callable[[Path], None], bool, str]] = {
    "column": (CODES, lambda p: retable(p, add_age), False, "has the column 'age'"),
    "column, signed": (CODES, lambda p: retable(p, add_age), True, "has the column 'age'"),
    "label column": (
        CAPPED,
        lambda p: retable(p, lambda t: t.append_column("present", pa.array([True] * len(t)))),
        True,
        "has the column 'present'",
    ),
    "fewer columns": (CODES, lambda p: retable(p, lambda t: t.select(["record"])), True, "has the columns record"),
    "metadata": (
        CODES,
        lambda p: retable(p, lambda t: t.replace_schema_metadata({"patients": "p1"})),
        True,
        "metadata beside its columns",
    ),
    "file": (CODES, lambda p: (p / "labels.csv").write_text("x") and None, False, "has 'labels.csv'"),
    "file, signed": (
        CODES,
        lambda p: ((p / "x.csv").write_text("x"), resign(p, lambda c: c["files"].update({"x.csv": {}})))[1],
        False,
        "files has the part 'x.csv'",
    ),
    "hidden file": (STATISTICS, lambda p: (p / ".x").write_text("x") and None, False, "has '.x'"),
    "folder": (CODES, lambda p: (p / "more").mkdir(), False, "has 'more'"),
    "missing file": (CODES, lambda p: (p / codes.CODEBOOK).unlink(), False, "is missing"),
    "missing certificate": (CODES, lambda p: (p / folder.CERTIFICATE).unlink(), False, "has no certificate.json"),
    "cut short": (
        CODES,
        lambda p: (p / records.TABLE).write_bytes((p / records.TABLE).read_bytes()[:-9]) and None,
        False,
        "not a whole Parquet file",
    ),
    "page": (CODES, lambda p: (p / folder.PAGE).write_text("all well") and None, False, "was altered"),
    "sums": (
        STATISTICS,
        lambda p: (p / statistics.SUMS).write_bytes((p / statistics.SUMS).read_bytes()[:-4] + b"abcd") and None,
        False,
        "was altered",
    ),
    "records": (CODES, lambda p: retable(p, lambda t: t.slice(1)), True, "records, not"),
    "order": (CODES, lambda p: retable(p, lambda t: t.take(list(range(len(t)))[::-1])), True, "order of their numbers"),
    "small cell": (CODES, lambda p: retable(p, one_in_a_cell), True, "fewer than the 5 of the policy"),
    "off the sphere": (CAPPED, bend, True, "off the sphere"),
    "figure": (
        CODES,
        lambda p: resign(p, lambda c: c["certified"][2].update(alone=0.0001)),
        False,
        "certified.2.alone is not what the bounds give",
    ),
    "figure, by a thousandth": (
        CODES,
        lambda p: resign(p, lambda c: c["certified"][2].update(alone=c["certified"][2]["alone"] * 0.999)),
        False,
        "certified.2.alone is not what the bounds give",
    ),
    "figure, unsigned": (
        CODES,
        lambda p: (
            (p / folder.CERTIFICATE).write_text((p / folder.CERTIFICATE).read_text().replace("0.08", "0.07")) and None
        ),
        False,
        "digest differs",
    ),
    "limit": (CAPPED, lambda p: resign(p, lambda c: c.update(limit=2)), False, "limit is not what the bounds give"),
    "sentence": (
        CAPPED,
        lambda p: resign(p, lambda c: c["sentences"].__setitem__(0, "Nobody can link.")),
        False,
        "sentences.0 is not what the bounds give",
    ),
    "noise": (
        STATISTICS,
        lambda p: resign(p, lambda c: c["mechanism"].update(multiplier=99.0, mu=1 / 99)),
        False,
        "is not what the bounds give",
    ),
    "kind": (CODES, lambda p: resign(p, lambda c: c.update(kind="novel")), False, "'novel' is no kind of release"),
    "part": (CODES, lambda p: resign(p, lambda c: c.update(note="x")), False, "has the part 'note'"),
    "label on scores": (
        SCORES,
        lambda p: resign(p, lambda c: c.update(one_label={"findings": ["Edema"]})),
        False,
        "cannot carry labels",
    ),
    "schema": (CODES, lambda p: resign(p, lambda c: c.update(schema=1)), False, "no certificate of schema 3"),
    "nonsense": (CODES, lambda p: resign(p, lambda c: c.update(mechanism=[])), False, "has no meaning"),
    "no json": (CODES, lambda p: (p / folder.CERTIFICATE).write_text("{") and None, False, "cannot be read"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_folder_is_refused_by_name(name: str, made: dict[str, Path], tmp_path: Path) -> None:
    kind, alter, signed, message = ALTERED[name]
    path = tmp_path / "altered"
    shutil.copytree(made[kind], path)
    folder.check(path)
    alter(path)
    if signed:
        resign(path)
    with pytest.raises(LinkageError) as raised:
        folder.check(path)
    assert message in raised.value.what
    assert raised.value.remedy


def test_a_link_in_place_of_a_file_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "altered"
    shutil.copytree(made[CODES], path)
    (path / codes.CODEBOOK).rename(tmp_path / "elsewhere")
    (path / codes.CODEBOOK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is missing"):
        folder.check(path)


def test_every_kind_has_its_words() -> None:
    for name, kind in KINDS.items():
        assert name == kind.name
        said = [kind.title, kind.words, kind.usage, *kind.files.values()]
        assert all(said), name
        assert kind.data_files, name
        assert kind.column is None or kind.column.words, name
