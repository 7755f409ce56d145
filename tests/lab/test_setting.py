"""Which stored head meets a setting, and what a one-shot head is made from."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from helpers import lab_store
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.lab import measured
from linkage_core.lab import setting as settings
from linkage_core.lab.setting import Setting
from linkage_core.mitigation import finetune, training
from linkage_core.store.entry import Entry, Store
from linkage_core.store.seen import why_untested

ALL = ", ".join(LABELS)


def heads(*rows: dict) -> pd.DataFrame:
    usual = {"mechanism": "label-dpsgd", "like": "", "epsilon": 1.0, "delta": 1e-6, "unit": "patient", "seed": 0}
    table = pd.DataFrame([{**usual, "head": f"h{i}", "findings": ALL, **row} for i, row in enumerate(rows)])
    return table.astype({"seed": "Int64"})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Setting("label-dpsgd", 1.0), "h0"),
        (Setting("label-dpsgd", 1.0, seed=1), "h1"),
        (Setting("label-dpsgd", 1.0, seed=None), "h2"),
        (Setting("label-dpsgd", 1.0, seed=7), "h2"),
        (Setting("label-dpsgd", 1.0, unit="pair"), "h3"),
        (Setting("label-dpsgd", 1.0, findings=LABELS[:2]), "h4"),
        (Setting("label-dpsgd", 1.0, delta=1e-8), "h5"),
        (Setting("label-dpsgd", 3.0), None),
        (Setting("label-dpsgd", 1.0, findings=LABELS[:3]), None),
        (Setting("label-dpsgd", math.inf), "h6"),
        (Setting("paper", 0.34), "h7"),
    ],
)
def test_a_head_meets_a_setting_in_everything_its_record_says(wanted, expected):
    table = heads(
        {},
        {"seed": 1},
        {"seed": None},
        {"unit": "pair"},
        {"findings": ", ".join(LABELS[:2])},
        {"delta": 1e-8},
        {"epsilon": math.inf},
        {"mechanism": "paper", "epsilon": 0.34, "delta": 6e-6, "unit": "pair", "findings": ""},
    )
    assert settings.stored(table, wanted) == expected


def test_the_control_is_the_nearest_in_ratio():
    control = {"mechanism": "noise-only", "like": "label-dpsgd"}
    table = heads(
        {}, {**control, "epsilon": 0.34}, {**control, "epsilon": 3.0}, {"mechanism": "noise-only", "like": "x"}
    )
    assert settings.noise_only(table, Setting("label-dpsgd", 0.5)) == ("h1", 0.34, True)
    assert settings.noise_only(table, Setting("label-dpsgd", math.inf)) == ("h2", 3.0, True)
    few = heads({**control, "epsilon": 1.0}, {**control, "epsilon": 9.0, "findings": LABELS[0]})
    assert settings.noise_only(few, Setting("label-dpsgd", 1.0, findings=LABELS[:1])) == ("h1", 9.0, True)
    assert settings.noise_only(few, Setting("label-dpsgd", 8.0, findings=LABELS[:2])) == ("h1", 9.0, False)
    assert settings.noise_only(table, Setting("paper", 0.34)) is None


def test_an_empty_table_meets_nothing():
    table = heads({}).iloc[:0]
    wanted = Setting("label-dpsgd", 1.0, delta=1e-8)
    assert settings.stored(table, wanted) is None
    assert settings.fewer(table, wanted) is None
    assert settings.noise_only(table, wanted) is None


def test_names_tell_settings_apart():
    settings_ = [
        Setting("label-dpsgd", 0.5),
        Setting("label-dpsgd", 0.5, unit="pair"),
        Setting("label-dpsgd", 0.5, delta=1e-8),
        Setting("label-dpsgd", 0.5, seed=None),
        Setting("label-dpsgd", 0.5, findings=LABELS[:3]),
        Setting("label-dpsgd", 0.5, findings=LABELS[1:4]),
        Setting("public-negatives", 0.5),
    ]
    assert len({each.name() for each in settings_}) == len(settings_)


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    store = Store(tmp_path_factory.mktemp("setting"))
    made, images, texts = lab_store.cohort(
        "toy", 90, synthetic=True, seed=3, splits=("heldout", "attacker", "finetune")
    )
    return import_arrays(made, "m", images, texts, store)


def test_a_one_shot_head_from_pairs_is_the_one_that_training_would_keep(entry):
    wanted = Setting("label-oneshot", 2.0, findings=LABELS[:3])
    live = settings.live(entry, wanted)
    name = settings.train(entry, wanted)
    now = Store(entry.path.parent.parent).open("toy", "m")
    np.testing.assert_allclose(now.heads(name).image.weight, live.heads.image.weight, rtol=1e-6)
    assert settings.stored(measured.heads(now), wanted) == name
    assert live.run.epsilon == pytest.approx(2.0, rel=1e-6)


def test_kept_sums_of_all_findings_serve_a_shorter_list_at_the_same_price(entry):
    made = finetune.prepare("label-oneshot", training.training_pairs(entry))
    kept = finetune.keep_sums(entry, made)
    whole = settings.live(kept, Setting("label-oneshot", 1.0))
    some = settings.live(kept, Setting("label-oneshot", 1.0, findings=(LABELS[2], LABELS[5])))
    np.testing.assert_array_equal(some.heads.text.weight, whole.heads.text.weight[[2, 5]])
    assert some.run == whole.run
    silent = settings.live(kept, Setting("label-oneshot", 1.0), signal=False)
    assert not np.allclose(silent.heads.image.weight, whole.heads.image.weight)
    with pytest.raises(InputError, match="Without noise"):
        settings.live(kept, Setting("label-oneshot", math.inf), signal=False)


def test_a_delta_of_one_over_n_is_refused_with_the_reason(entry):
    with pytest.raises(InputError, match=r"not below 1/n = 0\.033"):
        settings.live(entry, Setting("moment-oneshot", 1.0, delta=0.5))


def test_what_is_missing_is_named(tmp_path):
    store = Store(tmp_path)
    made, images, texts = lab_store.cohort("bare", 40, synthetic=False, seed=4, splits=("heldout",), labels=False)
    entry = import_arrays(made, "m", images, texts, store)
    assert not entry.labelled
    assert "bare has too few patients in its splits (finetune 0, attacker 0, heldout 40)" in str(why_untested(entry))
    assert why_untested(entry, attackers=False) is None
    assert "no split finetune" in str(settings.why_no_pairs(entry))
    with pytest.raises(InputError, match="no split finetune"):
        settings.live(entry, Setting("moment-oneshot", 1.0))
