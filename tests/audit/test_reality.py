"""What Start says of real reports is what was counted of them."""

import json

import pytest

from helpers.places import ROOT
from linkage_core.audit import reality


def test_the_sentence_holds_the_figures_of_the_benchmark():
    found = json.loads((ROOT / "benchmarks/reality.json").read_text(encoding="utf-8"))
    for name, share in reality.SHARED.items():
        assert share == pytest.approx(found[name.lower().replace("-", "")]["shared_text"], abs=0.005)
