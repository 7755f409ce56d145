"""`embeddings`: each record as its embedding, clean or with Gaussian noise in each coordinate.

For comparison: clean ones nothing limits, and noise of a size that limits linkage leaves little of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import ndtri

from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.release import bounds, ceiling, limits
from linkage_core.release import stated as shapes
from linkage_core.release.checks import require_vectors
from linkage_core.release.keyed import Secret
from linkage_core.release.kind import Column, Kind, Limit, Measured, Mechanism, Options
from linkage_core.release.records import Released, Source, lists, released
from linkage_core.release.stated import KEYED
from linkage_core.store import seen
from linkage_core.store.entry import Entry

_BLOCK = 8192
_CLEAN: dict[str, Any] = {
    "name": shapes.one_of("clean"),
    "sigma": shapes.one_of(0.0, 0),
    "dimension": shapes.whole(2, 10**6),
}
_NOISY: shapes.Shape = {
    **_CLEAN,
    "name": shapes.one_of("Gaussian noise"),
    "sigma": shapes.number(1e-12),
    "noise": shapes.one_of(KEYED),
}


def as_embeddings(source: Source, secret: Secret, sigma: float = 0.0) -> Released:
    """Each record as its embedding: clean, or with Gaussian noise `sigma` in each coordinate, keyed."""
    if not 0 <= sigma < np.inf:
        raise InputError(f"The noise is {sigma}.", "It is a standard deviation: zero or more, and finite.")
    vectors, d = source.embeddings.astype(np.float32), source.embeddings.shape[1]
    purpose = f"gaussian sigma={float(sigma)!r} d={d} head={source.head_sha256}"
    if sigma:
        for start in range(0, source.n, _BLOCK):
            part = slice(start, start + _BLOCK)
            vectors[part] += sigma * ndtri(secret.uniforms(purpose, source.images[part], d))
        vectors = unit(vectors)  # post-processing: it is the sum that the limit is about
    mechanism = {"name": "Gaussian noise" if sigma else "clean", "sigma": float(sigma), "dimension": d}
    if sigma:
        mechanism["noise"] = KEYED
    return released(source, secret, mechanism, np.arange(source.n), {"vector": lists(vectors)}, purpose)


def gaussian(sigma: float) -> Mechanism:
    """Output noise on each coordinate. Raises InputError for a sigma that is no standard deviation."""
    if not (np.isfinite(sigma) and sigma >= 0):
        raise InputError(f"sigma is {sigma}.", "It is a standard deviation: zero or more.")
    return Mechanism(lambda rows, rng: seen.noised(rows, sigma, rng), sigma)


def _bounds(stated: dict[str, Any]) -> limits.Bounds:
    """Those of Gaussian noise; none for clean embeddings."""
    sigma, m = float(stated["mechanism"]["sigma"]), limits.most(stated)
    if not sigma > 0:
        return {}
    mu = 1 / sigma  # unit rows: radius 1
    return {
        "alone": lambda n: bounds.gaussian(mu, n),
        "joint": lambda n: bounds.joint_gaussian(mu, n),
        "together": lambda n: bounds.gaussian(bounds.compose_mu([mu] * m), n),
        **limits.with_before(stated, 1.0, mu * math.sqrt(m)),
    }


def _mu(stated: dict[str, Any]) -> float | None:
    """Gaussian noise is a mu a record, m of them sqrt(m) mu; clean embeddings have none."""
    if not stated["mechanism"]["sigma"]:
        return None
    return math.sqrt(stated["cohort"]["most_records_of_a_patient"]) / float(stated["mechanism"]["sigma"])


def _measured(entry: Entry, options: Options, seed: int) -> Measured:
    sigma = float(options.noise or 0.0)
    if not sigma:
        return Measured(gaussian(0.0))
    return Measured(gaussian(sigma), ceiling.Gaussian(sigma), mu=1 / sigma)


ROW = Kind(
    name="embeddings",
    title="Noisy embeddings",
    words="each record as its embedding, clean or with Gaussian noise",
    usage="[--noise SIGMA]: each record as its embedding. For comparison; hardly limited.",
    heading=lambda content: (
        f"{content['cohort']['n_records']:,} records as embeddings"
        + (" with noise" if content["mechanism"].get("sigma") else "")
    ),
    takes=("noise", "secret", "new_secret", "unlimited", "per_patient"),
    make=lambda source, options, secret: as_embeddings(source, secret, options.noise or 0.0),
    column=Column("vector", "its embedding", lambda mechanism: pa.list_(pa.float32(), mechanism["dimension"])),
    parts=lambda mechanism: _NOISY if isinstance(mechanism, dict) and mechanism.get("sigma") else _CLEAN,
    check=require_vectors,
    limit=Limit(
        bounds=_bounds,
        assumptions=lambda stated: [*limits.of_records(stated), *limits.of_keyed_noise()],
        mu=_mu,
        at=lambda option, n: math.nan if math.isnan(option["mu"]) else float(bounds.gaussian(option["mu"], n)),
    ),
    measured=_measured,
)
