"""What can be slipped into a release by who computes every hash anew: nothing that the certificate does not name."""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from scipy.special import ndtr

from helpers.release_store import MODEL, build
from helpers.shared import Built
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.release import bounds, certificate, folder, page, records, stated
from linkage_core.release.kinds import codes, statistics
from linkage_core.release.make import Options, make
from linkage_core.release.table import KINDS
from linkage_core.store.entry import Store
from linkage_core.store.files import read_tensors, versions, write_tensors

CAPPED, CODES, EMBEDDINGS, SCORES, STATISTICS = "capped", "codes", "embeddings", "scores", "statistics"
Change = Callable[[dict[str, Any]], Any]
ENTERED = {"entry": 3, "digest": "0" * 64, "before": {"mu": 0.5, "lift": 4.0}}


@pytest.fixture(scope="module")
def made(built: Built, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A release of each kind."""
    root = tmp_path_factory.mktemp("made")
    store = Store(built(build))
    toy, public = store.open("toy", MODEL), store.open("open", MODEL)
    keyed = {"secret": root / "secret"}
    asked = {
        CODES: Options(CODES, limit=8, public=public, one_label=True, new_secret=True, **keyed),
        CAPPED: Options(CAPPED, limit=8, **keyed),
        SCORES: Options(SCORES, public=public, **keyed),
        EMBEDDINGS: Options(EMBEDDINGS, noise=0.5, **keyed),
        STATISTICS: Options(STATISTICS, epsilon=1.0, public=public),
        "seeded": Options(STATISTICS, epsilon=1.0, reproducible=True),
    }
    return {name: make(toy, root / name, options).path for name, options in asked.items()}


def content_of(path: Path) -> dict[str, Any]:
    return json.loads((path / folder.CERTIFICATE).read_text())


def put(path: Path, content: dict[str, Any]) -> None:
    written = json.dumps(content, indent=1, sort_keys=True) + "\n"
    (path / folder.CERTIFICATE).write_text(written)


def forged(path: Path, change: Change = lambda said: None, draw: bool = True) -> None:
    """Everything anew, by the package itself: hashes, sizes, figures, sentences, page, digest."""
    said = {name: one for name, one in content_of(path).items() if name in certificate.STATED}
    change(said)
    said["files"] = {name: folder._described(path / name) for name in said["files"] if name != folder.PAGE}
    if draw:
        (path / folder.PAGE).write_text(page.render(certificate.finished(said)))
    said["files"][folder.PAGE] = folder._described(path / folder.PAGE)
    put(path, certificate.finished(said).content)


def table(path: Path, change: Callable[[pa.Table], pa.Table], **options: Any) -> None:
    pq.write_table(change(pq.read_table(path / records.TABLE)), path / records.TABLE, **options)


def column(place: int, name: str, values: Callable[[int], Any]) -> Callable[[Path], None]:
    return lambda path: table(path, lambda found: found.set_column(place, name, values(len(found))))


def noted(name: str, change: Change, tensors: dict[str, np.ndarray] | None = None) -> Callable[[Path], None]:
    """Another note, and further tensors, in a safetensors file."""

    def alter(path: Path) -> None:
        held, note = read_tensors(path / name)
        change(note)
        write_tensors(path / name, held | (tensors or {}), note)

    return alter


def turned(name: str, change: Change, **notes: str) -> Callable[[Path], None]:
    """Other tensors in a safetensors file, and further notes beside its own."""

    def alter(path: Path) -> None:
        held, note = read_tensors(path / name)
        change(held)
        said = {"note": json.dumps(note, sort_keys=True), **notes}
        (path / name).write_bytes(safetensors.numpy.save(held, metadata=said))

    return alter


def smaller(held: dict[str, np.ndarray]) -> None:
    """A codebook of one cell fewer."""
    held |= {name: held[name][:-1] for name in ("places", "prices", "centres", "scores", "occupancy")}


def unfinite(path: Path) -> None:
    rows = records.read_vectors(path).copy()
    rows[0, 0] = np.nan
    column(1, "scores", lambda n: records.lists(rows))(path)


def written_by(path: Path) -> None:
    """The note of its writer, which pyarrow does not let one choose, in the footer's own bytes."""
    held, usual = (path / records.TABLE).read_bytes(), b"parquet-cpp-arrow version"
    assert held.count(usual) == 1
    (path / records.TABLE).write_bytes(held.replace(usual, b"Mrs A, born 1941 version!"))


def fielded(path: Path) -> None:
    def change(found: pa.Table) -> pa.Table:
        field = found.schema.field(0).with_metadata({"labels": "x"})
        return found.cast(pa.schema([field, *list(found.schema)[1:]]))

    table(path, change)


def spaced(path: Path) -> None:
    """Spaces in a header, which is where a safetensors file has room."""
    held = (path / statistics.SUMS).read_bytes()
    size = int.from_bytes(held[:8], "little")
    head = held[8 : 8 + size].replace(b'"label":', b'"label":' + b" " * 8)
    (path / statistics.SUMS).write_bytes(len(head).to_bytes(8, "little") + head + held[8 + size :])


SLIPPED: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "names for numbers": (
        CAPPED,
        column(0, "record", lambda n: pa.array([f"Patient {i:06d} born 1941" for i in range(n)])),
        "a record number is not 16 hexadecimal digits",
    ),
    "longer numbers": (
        CAPPED,
        column(0, "record", lambda n: pa.array([f"{i:018x}" for i in range(n)])),
        "a record number is not 16",
    ),
    "lines after a number": (
        CAPPED,
        column(0, "record", lambda n: pa.array([f"{i:016x}\n" for i in range(n)])),
        "a record number is not 16",
    ),
    "field metadata": (CAPPED, fielded, "metadata beside its columns"),
    "the writer's name": (CAPPED, written_by, "carries a note of its writer: 'Mrs A, born"),
    "an empty cell": (CODES, column(1, "code", lambda n: pa.array([None] + [0] * (n - 1), pa.int32())), "empty cells"),
    "a code too high": (CODES, column(1, "code", lambda n: pa.array([8] * n, pa.int32())), "outside the 8 cells"),
    "a code below 0": (CODES, column(1, "code", lambda n: pa.array([-1] * n, pa.int32())), "outside the 8 cells"),
    "a finding too high": (
        CODES,
        column(2, "finding", lambda n: pa.array([14] + [0] * (n - 1), pa.int8())),
        "a finding lies outside the list",
    ),
    "a score that is none": (SCORES, unfinite, "a number is not finite"),
    "a smaller codebook": (CODES, turned(codes.CODEBOOK, smaller), "has 7 cells, not 8"),
    "a note beside the note": (CODES, turned(codes.CODEBOOK, lambda held: None, ages="83"), "carries other notes"),
    "64 bits of sums": (
        STATISTICS,
        turned(statistics.SUMS, lambda held: held.update(label=held["label"].astype(np.float64))),
        "label is of type F64, not F32",
    ),
    "a sum less": (
        STATISTICS,
        turned(statistics.SUMS, lambda held: held.update(label=held["label"][:-1].copy())),
        "holds sums of shapes",
    ),
    "a prevalence more": (
        STATISTICS,
        turned(statistics.SUMS, lambda held: held.update(prevalence=np.append(held["prevalence"], 0.83))),
        "prevalence is not of shape",
    ),
    "a centre of more": (
        STATISTICS,
        turned(statistics.SUMS, lambda held: held.update(centre=np.append(held["centre"], 83.0))),
        "its frame is not of one shape",
    ),
    "a moment that is none": (
        STATISTICS,
        turned(statistics.SUMS, lambda held: held.update(second=held["second"] * np.float32(np.inf))),
        "a number is not finite",
    ),
    "64 bits": (
        EMBEDDINGS,
        lambda path: table(path, lambda t: t.set_column(1, "vector", t.column(1).cast(pa.list_(pa.float64(), 24)))),
        "column 'vector' is of type",
    ),
    "codebook's note": (
        CODES,
        noted(codes.CODEBOOK, lambda note: note["codebook"].update(ages=[83])),
        "has the part 'ages'",
    ),
    "codebook's text": (
        CODES,
        noted(codes.CODEBOOK, lambda note: note["codebook"].update(head_sha256="Mrs A, 83")),
        "codebook.head_sha256 is 'Mrs A, 83'",
    ),
    "codebook's cohort": (
        CODES,
        noted(codes.CODEBOOK, lambda note: note["codebook"].update(cohort="other")),
        "made from another cohort",
    ),
    "another note": (CODES, noted(codes.CODEBOOK, lambda note: note.update(more=1)), "has the part 'more'"),
    "sums' note": (STATISTICS, noted(statistics.SUMS, lambda note: note["about"].update(ages=[83])), "part 'ages'"),
    "sums' text": (
        STATISTICS,
        noted(statistics.SUMS, lambda note: note.update(start_from="Mrs A")),
        "start_from is 'Mrs A'",
    ),
    "a tensor more": (
        STATISTICS,
        noted(statistics.SUMS, lambda note: None, {"ages": np.arange(9)}),
        "has the tensor 'ages'",
    ),
    "spaces in a header": (STATISTICS, spaced, "its header holds more than it says"),
}
STATES: dict[str, tuple[str, Change, str]] = {
    "ages": (CAPPED, lambda said: said["mechanism"].update(ages=[83, 12]), "mechanism has the part 'ages'"),
    "ids": (CAPPED, lambda said: said["cohort"].update(patient_ids=["p1"]), "cohort has the part 'patient_ids'"),
    "in files": (CODES, lambda said: said["versions"].update(note="x"), "versions has the part 'note'"),
    "text": (CODES, lambda said: said["mechanism"].update(public="Mrs A, 83"), "mechanism.public is 'Mrs A, 83'"),
    "most": (CAPPED, lambda said: said["cohort"].update(most_records_of_a_patient=0), "most_records_of_a_patient is 0"),
    "more than all": (
        CAPPED,
        lambda said: said["cohort"].update(most_records_of_a_patient=10**6),
        "more than n_records",
    ),
    "least": (CODES, lambda said: said["mechanism"].update(least=0), "mechanism.least is 0"),
    "below 0": (CODES, lambda said: said["mechanism"].update(suppressed=-1), "mechanism.suppressed is -1"),
    "true for 1": (CAPPED, lambda said: said["cohort"].update(n_records=True), "cohort.n_records is True"),
    "gain": (CAPPED, lambda said: said["mechanism"].update(gain=0.9), "mechanism.gain is not that"),
    "epsilon": (CAPPED, lambda said: said["mechanism"].update(epsilon=3.0), "mechanism.epsilon is not that"),
    "seed": (STATISTICS, lambda said: said["mechanism"].update(seed=0), "seed is 0, and reproducible False"),
    "secret": (CAPPED, lambda said: said.update(secret=None), "secret is None, and reproducible False"),
    "repeatable": (CAPPED, lambda said: said.update(reproducible=True, ledger=ENTERED), "reproducible is true"),
    "counts": (STATISTICS, lambda said: said["cohort"].update(n_records=9), "cohort has the part 'n_records'"),
    "no counts": (CAPPED, lambda said: said["cohort"].pop("n_records"), "cohort lacks the part 'n_records'"),
    "mu": (STATISTICS, lambda said: said["mechanism"].update(mu=0.01), "mechanism.mu is not 1 / multiplier"),
    "no label": (CODES, lambda said: said.update(one_label={}), "one_label is {}"),
}


@pytest.mark.parametrize("name", SLIPPED)
def test_what_was_slipped_into_the_data_is_refused_by_name(name: str, made: dict[str, Path], tmp_path: Path) -> None:
    kind, alter, message = SLIPPED[name]
    path = tmp_path / "r"
    shutil.copytree(made[kind], path)
    forged(path)
    folder.check(path)
    alter(path)
    forged(path)
    with pytest.raises(LinkageError) as raised:
        folder.check(path)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", STATES)
def test_what_a_certificate_must_not_state_is_neither_written_nor_read(
    name: str, made: dict[str, Path], tmp_path: Path
) -> None:
    kind, change, message = STATES[name]
    path = tmp_path / "r"
    shutil.copytree(made[kind], path)
    with pytest.raises(InputError) as raised:
        forged(path, change)
    assert message in raised.value.what
    content = content_of(made[kind])
    change(content)
    put(path, {**content, "digest": certificate.digest_of(content)})
    with pytest.raises(StoreError) as raised:
        folder.check(path)
    assert message in raised.value.what


def test_other_noise_than_the_file_says_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(made[STATISTICS], tmp_path / "r")
    forged(tmp_path / "r", lambda said: said["mechanism"].update(multiplier=99.0, mu=1 / 99))
    with pytest.raises(StoreError, match="its multiplier is not the certificate's"):
        folder.check(tmp_path / "r")


def test_noise_that_can_be_repeated_is_never_certified(made: dict[str, Path], tmp_path: Path) -> None:
    content = content_of(made["seeded"])
    assert content["mechanism"]["seed"] == 0
    assert folder.check(made["seeded"]).content["certified"][0]["alone"] is None
    shutil.copytree(made["seeded"], tmp_path / "r")
    with pytest.raises(InputError, match="seed is 0, and reproducible False"):
        forged(tmp_path / "r", lambda said: said.update(reproducible=False))
    assert certificate.figures({**content, "reproducible": False}, 100)["alone"] is None, "whatever that says"


def test_the_page_is_the_certificates_own_to_the_byte(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r"
    shutil.copytree(made[CODES], path)
    (path / folder.PAGE).write_text((path / folder.PAGE).read_text().replace("</main>", "<!-- 83 --></main>"))
    forged(path, draw=False)
    with pytest.raises(StoreError, match="is not the page of its certificate"):
        folder.check(path)
    (path / folder.PAGE).unlink()
    with pytest.raises(StoreError, match="is missing"):
        folder.check(path)
    shutil.copy(made[CODES] / folder.PAGE, path)
    monkeypatch.setattr(folder, "__version__", "0.2")
    forged(path, draw=False)
    folder.check(path)
    (path / folder.PAGE).write_text("worded otherwise")
    forged(path, draw=False)
    with pytest.raises(StoreError, match=r"cannot be compared.*version 0.1.0, and this is 0.2.*Delete release.html"):
        folder.check(path)
    (path / folder.PAGE).unlink()
    folder.check(path)


def test_a_certificate_lists_the_files_of_its_kind_and_no_other(made: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "r"
    shutil.copytree(made[CAPPED], path)
    content = content_of(path)
    said = {name: content[name] for name in certificate.STATED}
    for change, message in (
        (
            lambda files: files.update({codes.CODEBOOK: files[records.TABLE]}),
            "lists 'codebook.safetensors', which is",
        ),
        (lambda files: files.pop(records.TABLE), r"does not list records\.parquet"),
    ):
        files = dict(content["files"])
        change(files)
        put(path, certificate.finished({**said, "files": files}).content)
        with pytest.raises(StoreError, match=message):
            folder.check(path)
    del said["versions"], said["files"]
    with pytest.raises(InputError, match="The certificate lacks versions, files"):
        certificate.finished(said)


def test_a_certificate_has_no_room_between_its_parts(made: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "r"
    shutil.copytree(made[CODES], path)
    written = (path / folder.CERTIFICATE).read_text()
    for other in (written + " ", written.replace('"kind":', '"kind": "Mrs A",\n "kind":', 1)):
        (path / folder.CERTIFICATE).write_text(other)
        with pytest.raises(StoreError, match="a space or a part stands there twice"):
            folder.check(path)


def test_a_link_in_place_of_the_certificate_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "r"
    shutil.copytree(made[CODES], path)
    (path / folder.CERTIFICATE).rename(tmp_path / "elsewhere")
    (path / folder.CERTIFICATE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"has no certificate\.json"):
        folder.check(path)


def test_lists_of_parts_are_those_that_are_written(made: dict[str, Path]) -> None:
    assert set(stated.PACKAGES) == set(versions())
    listed = {name for path in made.values() for name in content_of(path)["files"]}
    assert listed == {folder.PAGE, *itertools.chain(*(kind.data_files for kind in KINDS.values()))}
    assert folder.NUMBER_BYTES == records._NUMBER_BYTES
    assert set(content_of(made[STATISTICS])["cohort"]) == {"name", "model", "head", "synthetic", "labels"}


# ---------------------------------------------------------------------------------------------------------- any JSON


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        yield (*path, name)
        yield from places(one, (*path, name))


def nested(depth: int) -> Any:
    made: Any = 1
    for _ in range(depth):
        made = [made]
    return made


ODD = (None, True, -1, 0, 1, 2, 0.5, 1e308, -0.0, 10**400, math.inf, math.nan, "", "x", "\ud800", [], {}, [[None]])
DEEP = ("[" * 100_000, '{"schema": 2, "a": ' * 50_000, '{"schema": 2, "a": ' + "[" * 900 + "]" * 900 + "}")
TRIED = 40


def refused(path: Path) -> bool:
    """By the typed error; any other one is raised."""
    try:
        folder.check(path)
    except LinkageError:
        return True
    return False


@pytest.mark.parametrize("kind", [CODES, CAPPED, SCORES, EMBEDDINGS, STATISTICS, "seeded"])
def test_a_mutated_certificate_passes_unchanged_or_is_refused(kind: str, made: dict[str, Path], tmp_path: Path) -> None:
    """Any place of it, replaced by anything: no other error than the typed one, and no other content accepted."""
    path, rng = tmp_path / "r", random.Random(kind)
    shutil.copytree(made[kind], path)
    content = content_of(path)
    held = list(places(content))
    for place in rng.sample(held, min(TRIED, len(held))):
        mutant = copy.deepcopy(content)
        inner = mutant
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = rng.choice((*ODD, nested(400)))
        mutant["digest"] = certificate.digest_of(mutant)
        put(path, mutant)
        assert refused(path) or stated.difference(mutant, content) is None, place
        with suppress(Exception):  # the forger's own, whatever it is
            put(path, certificate.finished({name: mutant[name] for name in certificate.STATED}).content)
        refused(path)
    for deep in DEEP:
        (path / folder.CERTIFICATE).write_text(deep)
        assert refused(path)


# ------------------------------------------------------------------------------------------------- what left before


def exact(*releases: np.ndarray) -> float:
    """Brute force: the best Recall@1 of who holds all of these, each (N, values) laws of one candidate a row."""
    n = len(releases[0])
    best = 0.0
    for values in itertools.product(*(range(one.shape[1]) for one in releases)):
        best += max(math.prod(one[j, v] for one, v in zip(releases, values, strict=True)) for j in range(n))
    return best / n


def codes_of(cells: list[int], before: dict[str, Any], most: int = 1) -> dict[str, Any]:
    return {
        "kind": CODES,
        "reproducible": False,
        "one_label": None,
        "mechanism": {"cells": max(cells) + 1},
        "cohort": {"most_records_of_a_patient": most},
        "ledger": {"before": before},
    }


def binned(points: np.ndarray, bins: int = 15) -> np.ndarray:
    """Laws (N, bins) of points under unit noise, seen as the bin they fall in."""
    edges = np.concatenate([[-np.inf], np.linspace(-2, 2, bins - 1), [np.inf]])
    return np.diff(ndtr(edges - points[:, None]), axis=1)


@pytest.mark.parametrize("seed", range(8))
def test_with_what_left_before_nobody_does_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, mu = int(rng.integers(2, 6)), float(rng.uniform(0.1, 1.5))
    cells = rng.integers(0, 2, n).tolist()
    cells[:2] = [0, 1]
    laws = rng.dirichlet(np.full(4, 0.4), n)
    lift = laws.max(axis=0).sum()
    said = codes_of(cells, {"mu": mu, "lift": lift})
    found = exact(np.eye(2)[cells], laws, binned(rng.uniform(-mu, mu, n)))
    assert found <= certificate.figures(said, n)["with_before"] + 1e-12


def test_with_what_left_before_is_reached_and_less_is_passed() -> None:
    mu, crossing = 0.7, np.eye(2)[[0, 0, 1, 1]]
    both = exact(np.eye(2)[[0, 1, 0, 1]], crossing)
    said = codes_of([0, 1], {"mu": 0.0, "lift": 2.0})
    assert both == certificate.figures(said, 4)["with_before"] == 1.0 > max(2, 2) / 4
    pairs = exact(np.eye(2)[[0, 0, 1, 1]], binned(np.array([mu, -mu, mu, -mu]), 16))
    said = codes_of([0, 1], {"mu": mu, "lift": 1.0})
    bound = certificate.figures(said, 4)["with_before"]
    assert pairs == pytest.approx(ndtr(mu))
    assert certificate.figures(said, 4)["alone"] == 0.5 < pairs <= bound + 1e-12
    twice = certificate.figures(codes_of([0, 1], {"mu": mu, "lift": 1.0}, most=2), 10_000)["with_before"]
    assert twice == pytest.approx(2 * certificate.figures(said, 10_000)["with_before"]), "each record of the patient"


def test_statistics_after_others_are_one_query_and_records_multiply(made: dict[str, Path]) -> None:
    said = content_of(made[STATISTICS]) | {"ledger": ENTERED}
    mu = math.hypot(said["mechanism"]["mu"], 0.5)
    for n in certificate.POOL_SIZES:
        row = certificate.figures(said, n)
        assert row["with_before"] == pytest.approx(min(1.0, 4 * bounds.central(mu, n)))
        assert row["with_before_lift"] == pytest.approx(row["with_before"] * n)
    noisy = content_of(made[EMBEDDINGS]) | {"ledger": ENTERED}
    most = noisy["cohort"]["most_records_of_a_patient"]
    mu = math.hypot(math.sqrt(most) / 0.5, 0.5)
    assert certificate.figures(noisy, 10_000)["with_before"] == pytest.approx(min(1.0, 4 * bounds.gaussian(mu, 10_000)))


@pytest.mark.parametrize("kind", [CODES, STATISTICS])
def test_what_left_before_stands_in_certificate_and_page(kind: str, made: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "r"
    shutil.copytree(made[kind], path)
    for before, shown in (({"mu": 0, "lift": 1}, False), ({"mu": 0.5, "lift": 4.0}, True)):
        forged(path, lambda said, before=before: said.update(ledger={**ENTERED, "before": before}))
        found, seen = folder.check(path).content, (path / folder.PAGE).read_text()
        told = json.dumps([found["sentences"], found["assumptions"]])
        assert (found["certified"][0]["with_before"] is not None) == shown
        assert ("with what left before" in seen) == shown
        assert ("Gaussian noise with a mu of 0.5 and records with 4 for a limit" in told) == shown
        assert ("besides what the ledger counts" in told) == (shown and kind == CODES)
        assert "linkage ledger confirm LEDGER DIR" in seen
    forged(path, lambda said: said.update(ledger={**ENTERED, "before": {"mu": 0, "lift": None}}))
    assert folder.check(path).content["certified"][2]["with_before"] == 1
    assert "records without any limit" in (path / folder.PAGE).read_text()
