"""The canary audit on the code that trains: right code stays below its epsilon, broken code is found out."""

import numpy as np
import pytest

from linkage_core.errors import InputError
from linkage_core.mitigation.canary_run import MECHANISMS, Design, Real, audit
from linkage_core.mitigation.engine import ClosedForm
from linkage_core.mitigation.noise import Seeded

EPSILON, DELTA = 0.34, 1e-5


@pytest.fixture(scope="module")
def pairs():
    """300 patients of two pairs each."""
    rng = np.random.default_rng(0)
    labels = rng.choice([np.nan, 0.0, 1.0], size=(600, 14))
    images, texts = rng.standard_normal((2, 600, 24))
    return Real(images, texts, labels, np.repeat(np.arange(300), 2))


def run(pairs, mechanism="label-dpsgd", seed=0, epsilon=EPSILON, source=None, **options):
    """Noise of the same seed: an audit at level 95% refutes the right code now and then, by right."""
    engine = options.pop("engine", None)
    asked = Design(epsilon, DELTA, seed=seed, **{"n_canaries": 400, "q": 0.3, "steps": 40, **options})
    return audit(mechanism, pairs, asked, engine=engine, source=source or Seeded(1000 + seed))


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("seed", range(4))
def test_the_right_code_stays_below_its_epsilon(pairs, mechanism, seed):
    found, claimed = run(pairs, mechanism, seed)
    assert claimed.epsilon == pytest.approx(EPSILON, rel=1e-2)
    assert not found.refutes(claimed.epsilon)
    assert found.n_canaries == 400


def test_it_sees_something_where_there_is_something_to_see(pairs):
    for mechanism in MECHANISMS:
        found, claimed = run(pairs, mechanism, epsilon=30.0)
        assert 1 < found.epsilon_low < claimed.epsilon


class Quiet(ClosedForm):
    def noised(self, total, deviation, source):
        return super().noised(total, deviation / 10, source)


class Unclipped(ClosedForm):
    def shares(self, norms, clip):
        return np.ones_like(norms)


class Still(Seeded):
    def normal(self, shape):
        return 0.05 * super().normal(shape)


def test_broken_code_is_found_out(pairs):
    # an auditor who knows the clip sets it far below what a pair's gradient is, so that not clipping shows
    for options in (
        {"engine": Quiet()},
        {"engine": Unclipped(), "clip": 0.005, "rate": 1.0},
        {"source": Still(1)},
        {"mechanism": "label-oneshot", "source": Still(1)},
    ):
        found, claimed = run(pairs, **options)
        assert found.refutes(claimed.epsilon), options


def test_the_same_clip_with_clipping_is_fine(pairs):
    found, claimed = run(pairs, clip=0.005, rate=1.0)
    assert not found.refutes(claimed.epsilon)


def test_what_is_not_covered_is_said(pairs):
    with pytest.raises(InputError, match="'paper' has no canary audit"):
        run(pairs, "paper")
    with pytest.raises(InputError, match="n_canaries is 0"):
        run(pairs, n_canaries=0)
