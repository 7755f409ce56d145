"""Controls that no training pair has part in: (entry, options, source) -> (heads, what the record says besides).

What each does to the heads is in controls.py.
"""

from __future__ import annotations

import secrets
from typing import Any

from linkage_core.heads import Heads
from linkage_core.mitigation import controls
from linkage_core.mitigation.noise import Source
from linkage_core.mitigation.training import cautions, pairs_of, public_entry, said_of
from linkage_core.mitigation.work import Options
from linkage_core.store.entry import Entry


def random_heads(entry: Entry, options: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    return controls.random_heads(entry.heads(), source), {}


def rotation(entry: Entry, options: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    return controls.rotation(entry.heads(), source), {}


def truncate(entry: Entry, options: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    width = options.width or len(options.findings)
    return controls.truncate(entry.heads(), width), {"width": width}


def output_noise(entry: Entry, options: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    seed = new_seed() if options.seed is None else options.seed
    return entry.heads(), {"output_noise": options.output_noise, "output_seed": seed}


def concept_span(entry: Entry, options: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    from linkage_core.encoders.registry import load_encoder

    sentences = controls.prompts(options.findings)
    encoder = load_encoder(entry.manifest["model"]["name"], store_root=entry.store.root)
    return controls.concept_span(entry.heads(), encoder.text_features(sentences)), {"prompts": sentences}


def public_labels(entry: Entry, options: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    other = public_entry(entry, options.public)
    pairs = pairs_of(other, other.default_split)
    heads = controls.public_labels(pairs.images, pairs.texts, pairs.labels, options.findings)
    return heads, {"trained_on": pairs.said(), **said_of(cautions(pairs, options.findings))}


def new_seed() -> int:
    """For a reproducible run that names none."""
    return secrets.randbits(32)
