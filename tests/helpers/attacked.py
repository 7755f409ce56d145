"""What an attacker holds, simulated so that its structure says what each of them must recover."""

import numpy as np

from linkage_core.attacks.held import Held
from linkage_core.cohorts.base import LABELS
from linkage_core.heads import Heads, Linear, identity, unit

D, N_LABELS, N_OWN, N_TEST = 24, 6, 600, 300


def simulated(
    image_head: np.ndarray | None = None,
    *,
    text_head: np.ndarray | None = None,
    noise: float = 0.0,
    seed: int = 0,
    n_own: int = N_OWN,
    n_test: int = N_TEST,
    shared: bool = False,
) -> Held:
    """Images and texts share labels (first coordinates of a latent) and an instance; noise of their own on top.

    Two rows a patient; with `shared`, every fifth report is the same text.
    """
    rng = np.random.default_rng(seed)
    n = n_own + n_test
    labels = (rng.random((n, N_LABELS)) < 0.3).astype(float)
    latent = np.column_stack([2 * labels - 0.6, rng.standard_normal((n, D - N_LABELS))])
    texts = latent + 0.5 * rng.standard_normal((n, D))
    images = latent * np.linspace(1.5, 0.5, D) + 0.8 * rng.standard_normal((n, D))
    findings = np.full((n, len(LABELS)), np.nan)
    findings[:, :N_LABELS] = labels
    if shared:
        texts[::5], findings[::5] = texts[0], findings[0]
    image = identity(D) if image_head is None else Linear(image_head.astype(np.float32), np.zeros(len(image_head)))
    text = identity(D) if text_head is None else Linear(text_head.astype(np.float32), np.zeros(len(text_head)))
    clean = unit(image(images))
    released = clean + noise * rng.standard_normal(clean.shape).astype(np.float32)
    own, test = np.arange(n_own), np.arange(n_own, n)
    distinct, text_of = np.unique(texts[test], axis=0, return_inverse=True)
    first = np.unique(text_of, return_index=True)[1]
    return Held(
        released=released[test],
        images=images[test].astype(np.float32),
        texts=distinct.astype(np.float32),
        findings=findings[test][first],
        text_of=text_of,
        match=np.arange(n_test),
        query_group=test // 2,
        candidate_group=test // 2,
        own_released=released[own],
        own_clean=clean[own],
        own_images=images[own].astype(np.float32),
        own_texts=texts[own].astype(np.float32),
        own_findings=findings[own],
        own_group=own // 2,
        heads=Heads(image, text),
        off_the_shelf=Heads(identity(D), identity(D)),
        noise=noise,
    )
