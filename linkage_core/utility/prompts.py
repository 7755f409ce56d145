"""Zero-shot prompts: the texts that state a finding and those that deny it, and the tower that embeds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.encoders.base import Encoder
from linkage_core.errors import InputError, ModelError
from linkage_core.heads import Heads, unit
from linkage_core.store.entry import Entry

Prompts = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""label -> (texts that state it, texts that deny it)."""


def prompts_of(entry: Entry) -> dict[str, tuple[list[str], list[str]]]:
    """Prompts for an entry's model: for the phantom's models from its grammar, in the words that the model was trained
    on; for others plain sentences."""
    training = entry.manifest["model"].get("training")
    if isinstance(training, Mapping) and str(entry.manifest["model"].get("name", "")).startswith("phantom-"):
        return phantom_prompts(str(training.get("level", "radiology")))
    return {
        label: (
            [f"{name.capitalize()}.", f"There is {name}.", f"Findings consistent with {name}."],
            [f"No {name}.", f"There is no {name}.", f"No evidence of {name}."],
        )
        for label in LABELS
        for name in [label.lower()]
        if label != "No Finding"
    } | {
        "No Finding": (
            ["No acute cardiopulmonary process.", "Normal chest radiograph.", "The lungs are clear."],
            ["Abnormal chest radiograph.", "There is an acute cardiopulmonary process.", "The lungs are not clear."],
        )
    }


def phantom_prompts(level: str = "radiology", each: int = 24, seed: int = 0) -> dict[str, tuple[list[str], list[str]]]:
    """For each label, the grammar's texts of studies with that finding alone, and of the same chests without it.

    The chests are patients of the encoders' training split: neither queries nor anybody's in the store. "No Finding" is
    the empty chest against the same chests with all that they have. `level` as in phantom_build's recipes.
    """
    from linkage_core.cohorts.phantom import grammar, population

    def written(study: population.Study) -> tuple[str, dict[str, float] | None]:
        if level == "radiology":
            report = grammar.report(study, seed)
            return report.text, report.labels
        draws = population.Draws(seed, ord(study.site), study.patient, study.number, 3, ord(level[0]))
        return grammar.caption(study, level, draws), None  # type: ignore[arg-type]

    bare: dict[str, Any] = {
        "findings": (),
        "changes": (),
        "resolved": (),
        "devices": (),
        "device_changes": (),
        "removed": (),
    }
    found: dict[str, tuple[list[str], list[str]]] = {label: ([], []) for label in LABELS}

    def add(label: str, with_it: population.Study, without: population.Study) -> None:
        stated, denied = found[label]
        if len(stated) >= each:
            return
        (text, labels), (other, others) = written(with_it), written(without)
        if labels is None or others is None or (labels.get(label) == 1 and others.get(label) != 1):
            stated.append(text)
            denied.append(other)

    for study in islice(population.studies_of_split("A", "encoder", seed, 4000), 8000):
        empty = replace(study, **bare)
        for finding in study.findings:
            add(finding.kind.title(), replace(study, **{**bare, "findings": (finding,), "changes": ("",)}), empty)
        if study.devices:
            changes = ("",) * len(study.devices)
            add(
                "Support Devices",
                replace(study, **{**bare, "devices": study.devices, "device_changes": changes}),
                empty,
            )
        if study.findings:
            add("No Finding", empty, study)
        if all(len(stated) >= each for stated, _ in found.values()):
            break
    return {label: texts for label, texts in found.items() if texts[0]}


@dataclass(frozen=True)
class TextTower:
    """Features of prompts: label -> (features stated (n, t), features denied (n, t))."""

    features: dict[str, tuple[np.ndarray, np.ndarray]]

    def scores(self, images: np.ndarray, heads: Heads) -> np.ndarray:
        """(n, 14) cosine with the mean stated prompt less that with the mean denied one; NaN without prompts.

        images (n, e) unit rows.
        """
        found = np.full((len(images), len(LABELS)), np.nan)
        for label, sides in self.features.items():
            stated, denied = (unit(unit(heads.text(side)).mean(axis=0, keepdims=True))[0] for side in sides)
            found[:, LABELS.index(label)] = images @ (stated - denied)
        return found


@lru_cache(maxsize=1)
def _encoder(name: str, root: Path, weights: str | None) -> Encoder:
    """Loaded once for all heads of an entry: that takes longer than the prompts do. ModelError for other weights."""
    from linkage_core.encoders.registry import load_encoder

    encoder = load_encoder(name, store_root=root)
    if encoder.describe()["weights_sha256"] != weights:
        raise ModelError(
            f"The {name} on this machine has other weights than this cohort was embedded with.",
            "What is embedded now must be embedded by the same model: embed the cohort again.",
        )
    return encoder


def encoder_of(entry: Entry) -> Encoder:
    """The model that made an entry. ModelError where it is not on this machine, is another one, or where the embeddings
    came from elsewhere."""
    refuse_imported(entry)
    made_by = entry.manifest["model"]
    return _encoder(str(made_by.get("name", entry.model)), entry.store.root, made_by.get("weights_sha256"))


def refuse_imported(entry: Entry) -> None:
    """ModelError where embeddings came from elsewhere: nothing new can be embedded beside them."""
    if entry.manifest["model"].get("family") == "imported":
        raise ModelError(
            f"The embeddings of {entry.cohort}/{entry.model} were imported: the model that made them is not at hand.",
            "Embed the cohort here, with a model of `linkage doctor`.",
        )


def text_tower(entry: Entry, prompts: Prompts | None = None) -> TextTower:
    """Embed prompts with the entry's own model. ModelError where it is not on this machine or is another one;
    InputError for a label that is none of the 14 or has no text on a side."""
    encoder = encoder_of(entry)
    prompts = prompts_of(entry) if prompts is None else prompts
    for label, (stated, denied) in prompts.items():
        if label not in LABELS:
            raise InputError(f"There is a prompt for {label!r}.", f"The labels are: {', '.join(LABELS)}.")
        if not (len(stated) and len(denied)):
            raise InputError(
                f"The prompts for {label!r} lack a side.", "Give texts that state it and texts that deny it."
            )
    return TextTower(
        {
            label: (encoder.text_features(list(stated)), encoder.text_features(list(denied)))
            for label, (stated, denied) in prompts.items()
        }
    )
