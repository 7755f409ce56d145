"""An exported cohort goes the whole way: read, embedded and audited as the phantom itself."""

import dataclasses
from itertools import islice

import numpy as np
import pytest

from helpers.places import SHIPPED
from linkage_core.audit import study
from linkage_core.cli import main
from linkage_core.cohorts import phantom
from linkage_core.cohorts.phantom import layouts, population
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed.embedding import embed
from linkage_core.encoders.registry import load_encoder
from linkage_core.heads import unit
from linkage_core.store.entry import Store

STUDIES = 90


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A MIMIC-CXR-shaped folder, embedded by the command, and the same studies embedded directly."""
    root = tmp_path_factory.mktemp("embedded")
    folder, store = root / "mimic", Store(root / "store")
    arguments = ["--studies", str(STUDIES), "--size", str(phantom.cohort.EMBEDDED_SIZE), "--quiet", str(folder)]
    with pytest.raises(SystemExit) as ended:
        main.main(["phantom", "export", "--layout", "mimic-cxr", *arguments])
    assert not ended.value.code
    encoder = load_encoder("phantom-radiology", store_root=SHIPPED)
    through = embed(open_cohort("mimic-cxr", folder), encoder, store)
    studies = list(islice(population.studies_of_split("A", "heldout"), STUDIES))
    records = phantom.cohort.records_of(studies)
    parts = [layouts.parts_of(report) for report in records["report"]]
    cohort = dataclasses.replace(
        open_cohort("phantom", None, patients=1),
        name="directly",
        records=records.assign(report=["\n".join(filter(None, part)) for part in parts]),
    )
    return through, embed(cohort, encoder, store)


def test_features_are_those_of_the_phantom(exported):
    through, directly = exported
    records = directly.records()
    ids = [layouts.ids_of("mimic-cxr", record).record for record in records["record_id"]]
    there = through.records().set_index("record_id").loc[ids].reset_index()
    assert (there["report_key"] == records["report_key"]).all()
    texts = [entry.features("text", records["report_key"]) for entry in exported]
    assert np.abs(texts[0] - texts[1]).max() < 1e-5
    images = [
        unit(entry.heads().image(entry.features("image", names)))
        for entry, names in ((through, ids), (directly, records["record_id"]))
    ]
    assert (images[0] * images[1]).sum(1).min() > 0.999  # 12 of 16 bits are left


def test_its_audit_is_that_of_the_phantom(exported):
    tables = [study.study(entry, split="all").table([10, 50, "full"], [1, 5]) for entry in exported]
    for column in ("recall", "mrr"):
        assert np.abs(tables[0][column] - tables[1][column]).max() < 0.02
    assert (tables[0]["n_queries"] == tables[1]["n_queries"]).all()
    assert (tables[0]["chance"] == tables[1]["chance"]).all()
    assert tables[0]["lift"].iloc[0] > 1.5  # and there is something to be equal
    hard = [study.study(entry, pool=study.HARD_NEGATIVES, split="all") for entry in exported]
    assert (np.sort(hard[0].counts.n_eligible) == np.sort(hard[1].counts.n_eligible)).all()
