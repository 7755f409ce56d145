"""What a page says stands in the folder of `linkage audit --full`."""

import pytest

from linkage_core import sentences
from linkage_core.audit.full import FullAudit, Settings
from linkage_core.store.entry import LADDER, Store

from .conftest import go_to, headline, words

SETTINGS = Settings(pool_sizes=(100,), ks=(1,), rules=("score",), priors=(0.5,))


@pytest.fixture(scope="module")
def tables(store_root):
    sections = ("recall", "models", "decoys", "open world", "exposure")
    return FullAudit(Store(store_root), "phantom", LADDER, SETTINGS).tables(sections)


def row(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_risk_curve(open_page, tables):
    said = row(
        tables["recall"], model=LADDER[-1], pool="other-patients", direction="image-to-report", pool_size=100, k=1
    )
    app = go_to(open_page(N=100), "risk")
    assert headline(app).startswith("".join(sentences.at_pool_size(100, said["recall"], said["chance"])))
    assert sentences.interval(said["recall_low"], said["recall_high"], 100) in words(app)


def test_models_compared(open_page, tables):
    said = row(tables["models_compared"], model_a=LADDER[-2], model_b=LADDER[-1], pool_size=100, k=1)
    app = go_to(open_page(N=100, tab="compare"), "risk")
    assert f"{said['difference'] * 100:.0f} more of 100" in headline(app)


def test_same_finding_decoys_need_more_than_two_alike(open_page, tables):
    # every vector of the small cohort is its owner's alone: both say so
    assert "label_matched_auc" not in tables
    app = go_to(open_page(N=100, tab="decoys"), "risk")
    assert not app.exception


def test_missing_match(open_page, tables):
    said = row(tables["open_world_operating"], model=LADDER[-1], wanted_precision=0.5)
    app = go_to(open_page(N=100, wanted=50), "missing-match")
    assert said["reached"]
    assert sentences.of(said["links"], 100) in headline(app)


def test_who_is_exposed(open_page, tables):
    said = row(tables["exposure_tail"], model=LADDER[-1], pool_size=100)
    app = go_to(open_page(N=100), "exposure")
    n = int(said["n"])
    if said["note"]:
        assert said["note"] in words(app).lower()
    else:
        sentence = "".join(sentences.exposed(int(said["n_tail"]), n, said["tail"], said["middle"], 100))
        assert headline(app).startswith(sentence)
    assert f"n = {n:,} images" in words(app)
