"""A real cluster of three raylets makes the pieces: the bits of one process, whatever is killed in the middle."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import engine_work
from helpers.command import linkage
from helpers.linear_encoder import CountingEncoder, cohort
from helpers.toy import toy_arrays, toy_records
from linkage_core.attacks import dual, games
from linkage_core.attacks.parts import Shared
from linkage_core.attacks.protocol import EVERYTHING
from linkage_core.audit.study import question
from linkage_core.cohorts import table
from linkage_core.embed import embedding
from linkage_core.embed.embedding import embed, import_arrays
from linkage_core.engine import Engine, Job, engine_of
from linkage_core.errors import InputError
from linkage_core.ranking import counts
from linkage_core.store.entry import OFF_THE_SHELF, Store

ROOT = Path(__file__).resolve().parents[1]


def needs_ray(test: Callable[..., None]) -> Callable[..., None]:
    """Of `make soak`: on a busy machine three raylets may not be up within the 30 seconds that Ray gives them."""
    absent = importlib.util.find_spec("ray") is None
    return pytest.mark.soak(pytest.mark.skipif(absent, reason="RAY IS NOT INSTALLED: pip install ray")(test))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What engine_work.opened sets in a worker, and here for one test."""
    for place, name, value in zip(
        (embedding, embedding, counts), ("SHARD_ROWS", "BATCH", "QUERY_BLOCK"), engine_work.SMALL, strict=True
    ):
        monkeypatch.setattr(place, name, value)
    monkeypatch.setattr(dual, "SETTINGS", dual.SETTINGS)
    monkeypatch.setattr(dual, "_NETWORKS", 2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three raylets: a head without processors, and two nodes of one."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    }.items():
        os.environ[name] = value
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80e6}
    )
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80e6)
    yield made
    made.shutdown()


@pytest.fixture
def faults(tmp_path: Path) -> Path:
    (tmp_path / "faults").mkdir()
    return tmp_path / "faults"


def job(kind: str, store: Store, faults: Path) -> Job:
    return Job(engine_work.OPENS, {"kind": kind, "store": str(store.root), "faults": str(faults)})


def run(cluster: Any, asked: Job) -> None:
    Engine("ray", cluster.address).run(asked.open(), asked)


def imported(store: Store, folder: Path) -> None:
    records = toy_records(60)
    records.to_csv(folder / "records.csv", index=False)
    import_arrays(table.read(folder / "records.csv", "toy"), "m", *toy_arrays(records, 1.0), store)


def made_of(faults: Path) -> list[int]:
    """Places of the pieces that were begun, in order."""
    return sorted(int(file.name.split("-")[1]) for file in faults.glob("began-*"))


def finished(store: Store) -> tuple[dict[str, Any], int]:
    """The manifest, and how many images this process had to embed for it."""
    encoder = CountingEncoder()
    return dict(embed(cohort(60), encoder, store, workers=0).manifest), encoder.images_seen


@needs_ray
@pytest.mark.parametrize("fault", ["worker", "worker-late"])
def test_embed_is_that_of_one_process_whatever_is_killed(
    cluster: Any, fault: str, tmp_path: Path, store: Store, faults: Path
) -> None:
    whole, _ = finished(Store(tmp_path / "whole"))
    (faults / fault).touch()
    asked = job("embed", store, faults)
    n_pieces = len(asked.open().missing())
    assert n_pieces >= 6
    run(cluster, asked)
    assert finished(store) == (whole, 0)
    begun = made_of(faults)
    assert len(begun) > n_pieces, "something was killed"
    assert sorted(set(begun)) == list(range(n_pieces))
    assert not list(store.root.rglob("engine-*"))


@needs_ray
def test_counts_and_attackers_are_those_of_one_process(
    cluster: Any, tmp_path: Path, store: Store, faults: Path
) -> None:
    imported(store, tmp_path)
    entry = store.open("toy", "m")
    asked = question(entry, OFF_THE_SHELF, "image-to-report", "other-patients", None)
    whole = asked.count()
    run(cluster, job("audit", store, faults))
    left = asked.left(asked.counting())
    assert len(left.names) >= 3
    assert left.missing() == []
    for name in left.names:
        piece = left.arrays(name)
        for column, values in whole._asdict().items():
            assert (piece[column] == values[piece["rows"]]).all()

    attack = job("attack", store, faults)
    attack.open()  # trains a few steps from here on, as the workers do
    expected = games.attacks_knowing(entry, OFF_THE_SHELF, EVERYTHING, [20])
    run(cluster, attack)
    gathered = Shared(gather=True)
    found = games.attacks_knowing(entry, OFF_THE_SHELF, EVERYTHING, [20], shared=gathered)
    assert gathered.missing == []
    assert len(found) == len(expected) >= 5
    for one, other in zip(found, expected, strict=True):
        assert (one.attacker, one.m, one.known, one.chosen) == (other.attacker, other.m, other.known, other.chosen)
        assert all((a == b).all() for a, b in zip(one.counts, other.counts, strict=True))


@needs_ray
def test_a_driver_that_was_killed_goes_on(cluster: Any, tmp_path: Path, store: Store, faults: Path) -> None:
    whole, _ = finished(Store(tmp_path / "whole"))
    asked = job("embed", store, faults)
    script = (
        "import sys, json; from linkage_core.engine import Engine, Job; "
        "job = Job(sys.argv[2], json.loads(sys.argv[3])); Engine('ray', sys.argv[1]).run(job.open(), job)"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", script, cluster.address, asked.opens, json.dumps(asked.options)], cwd=ROOT
    )
    until = time.monotonic() + 120
    while not list(store.root.rglob("features-image-*-00003.safetensors")):
        assert driver.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    (faults / "hold").touch()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    missing = asked.open().missing()
    assert missing
    for file in faults.iterdir():
        file.unlink()
    run(cluster, asked)
    assert set(made_of(faults)) == set(missing), "no piece that was there is made again"
    assert finished(store) == (whole, 0)


@needs_ray
def test_what_goes_wrong_on_a_worker_is_one_sentence(cluster: Any, tmp_path: Path, store: Store, faults: Path) -> None:
    asked = job("embed", store, faults)
    (faults / "error").touch()
    with pytest.raises(InputError, match=rf"^On {socket.gethostname()}: The disk is of cheese\. Take another\.$"):
        run(cluster, asked)
    (faults / "error").unlink()
    (faults / "bug").touch()
    with pytest.raises(InputError, match="could not make piece 1 of the shards: KeyError") as failed:
        run(cluster, asked)
    assert "text of a report" not in str(failed.value)
    (faults / "bug").unlink()

    work = asked.open()
    work.key = "of other weights"
    with pytest.raises(InputError, match="from other records, weights or package versions"):
        Engine("ray", cluster.address).run(work, asked)
    with pytest.raises(InputError, match="does not see the store of this run"):
        _with_a_word_of_another(asked, cluster)


def _with_a_word_of_another(asked: Job, cluster: Any) -> None:
    from contextlib import contextmanager

    from linkage_core import engine

    @contextmanager
    def elsewhere(folder: Path) -> Iterator[tuple[str, str]]:
        yield str(folder / "parts" / "engine-of-another-machine"), "word"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_seen", elsewhere)
        run(cluster, asked)


def test_an_address_where_nobody_answers_is_one_sentence(store: Store, faults: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        asked = job("embed", store, faults)
        for address in (f"ray://127.0.0.1:{port}", f"127.0.0.1:{port}"):
            with pytest.raises(InputError, match=f"Nothing answers at {address}"):
                Engine("ray", address).run(asked.open(), asked)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, store: Store, faults: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    asked = job("embed", store, faults)
    with pytest.raises(InputError, match=r"pip install 'linkage-explorer\[ray\]'"):
        Engine("ray").run(asked.open(), asked)


@pytest.mark.parametrize("text", ["", "dask", "ray://", "ray://head", "http://head:1", "head:port", "ray://a b:1"])
def test_an_engine_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--engine is "):
        engine_of(text)


def test_an_engine_is_not_asked_for_parts_too(tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    imported(store, tmp_path)
    by = ["--engine", "ray", "--store", str(store.root)]
    for command in (["audit", "toy/m"], ["attack", "toy/m"], ["embed", "phantom", "--model", "phantom-general"]):
        assert linkage(*command, "--part", "1/2", *by) == 2
        assert "--engine and --part were given" in capsys.readouterr().err
    assert linkage("attack", "toy/m", "--game", "archive", *by) == 2
    assert "--engine and --game archive were given" in capsys.readouterr().err
    assert linkage("audit", "toy/m", "--sample-queries", "5", *by) == 2
    assert "--engine and a sample were given" in capsys.readouterr().err


@needs_ray
def test_a_node_that_is_killed_costs_time_only(cluster: Any, tmp_path: Path, store: Store, faults: Path) -> None:
    """Last of all: the node does not come back."""
    test_embed_is_that_of_one_process_whatever_is_killed(cluster, "node", tmp_path, store, faults)
