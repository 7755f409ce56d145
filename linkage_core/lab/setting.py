"""One setting of the mitigation lab: what is chosen on a screen, the head that belongs to it, and whether it is kept.

A setting is met by a stored head whose record says the same. A one-shot setting without one is made on the spot from
clipped sums; a trained one has to be trained. Only `train` and `measure` write.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from dataclasses import dataclass
from functools import lru_cache

import pandas as pd

from linkage_core.audit.study import Study, study_of
from linkage_core.cohorts.base import FINETUNE, LABELS
from linkage_core.cohorts.registry import FILE_KINDS, PHANTOM_SITES, WEB_KINDS
from linkage_core.errors import InputError
from linkage_core.heads import Heads, Linear
from linkage_core.lab import measured
from linkage_core.mitigation import accounting, finetune, mechanisms, oneshot, training
from linkage_core.mitigation.noise import Seeded, System
from linkage_core.progress import Progress, silent
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.seen import why_untested


@dataclass(frozen=True)
class Setting:
    """epsilon: inf for no noise. delta None: by accounting.delta_for. seed: of a reproducible run, None for secret
    noise; findings count only where the mechanism learns from labels."""

    mechanism: str
    epsilon: float
    findings: tuple[str, ...] = LABELS
    unit: str = "patient"
    delta: float | None = None
    seed: int | None = 0

    @property
    def one_shot(self) -> bool:
        return mechanisms.known(self.mechanism).one_shot is not None

    @property
    def learns_findings(self) -> bool:
        return mechanisms.known(self.mechanism).labels

    @property
    def as_reported(self) -> bool:
        """Whether unit and delta are those of a reported recipe, whatever is chosen."""
        return mechanisms.known(self.mechanism).kind == "reported"

    def options(self) -> finetune.Options:
        return finetune.Options(
            epsilon=self.epsilon, delta=self.delta, unit=self.unit, findings=self.findings, seed=self.seed
        )

    def name(self) -> str:
        """What a head of this setting is called: the default name, and what differs from the default.

        >>> Setting("label-dpsgd", 0.5, unit="pair").name()
        'label-dpsgd-eps0.5-seed0-pair'
        """
        parts = [finetune.default_name(self.mechanism, self.options())]
        if self.learns_findings and self.findings != LABELS:
            mark = hashlib.sha256(",".join(self.findings).encode()).hexdigest()[:6]
            parts.append(f"{len(self.findings)}findings-{mark}")
        if self.unit != "patient":
            parts.append(self.unit)
        if self.delta is not None:
            parts.append(f"delta{self.delta:g}")
        return "-".join(parts)


@dataclass(frozen=True)
class Live:
    """A one-shot head that is not stored: the head, what was done to the training units, and how cosine links."""

    heads: Heads
    run: accounting.Run
    study: Study


def stored(heads: pd.DataFrame, setting: Setting) -> str | None:
    """The head of lab.heads that meets a setting, or None. A run with secret noise is taken before a repeatable one
    unless the seed is asked for."""
    found = _alike(heads, setting)
    found = found[_mask(found, [_findings_meet(text, setting) for text in found["findings"]])]
    if not setting.as_reported:
        found = found[found["unit"] == setting.unit]
        if setting.delta is None:
            found = found[found["delta"] <= accounting.DELTA]
        else:
            alike = [math.isclose(delta, setting.delta, rel_tol=1e-6) for delta in found["delta"]]
            found = found[_mask(found, alike)]
    seeds = found["seed"]
    found = found[seeds.isna() if setting.seed is None else (seeds == setting.seed).fillna(False) | seeds.isna()]
    if found.empty:
        return None
    order = found.sort_values(["delta", "seed"], ascending=[False, True], na_position="last")
    return str(order["head"].iloc[0])


def fewer(heads: pd.DataFrame, setting: Setting) -> tuple[str, int] | None:
    """(head, number of findings) of a stored head like this one that declares only some findings: what becomes of the
    others is measured on it."""
    if not setting.learns_findings or setting.findings != LABELS:
        return None
    found = _alike(heads, setting)
    counts = found["findings"].map(lambda text: len(_listed(text)))
    found = found[(counts > 0) & (counts < len(LABELS))]
    if found.empty:
        return None
    return str(found["head"].iloc[0]), len(_listed(str(found["findings"].iloc[0])))


def noise_only(heads: pd.DataFrame, setting: Setting) -> tuple[str, float, bool] | None:
    """(head, its epsilon, whether it declares the same findings) of the stored noise-only control of a mechanism: of
    the same findings if there is one, then of the noise nearest in ratio."""
    found = heads[(heads["mechanism"] == mechanisms.NOISE_ONLY) & (heads["like"] == setting.mechanism)]
    found = found[found["epsilon"].notna()]
    if found.empty:
        return None
    alike = [_findings_meet(text, setting) for text in found["findings"]]
    far = [ratio(float(epsilon), setting.epsilon) for epsilon in found["epsilon"]]
    best = min(range(len(found)), key=lambda i: (not alike[i], far[i]))
    row = found.iloc[best]
    return str(row["head"]), float(row["epsilon"]), alike[best]


def ratio(one: float, other: float) -> float:
    """How far two epsilons lie apart, as the logarithm of their ratio; infinity counts as a million."""
    return abs(math.log(min(one, 1e6) / min(other, 1e6)))


def epsilons_of(heads: pd.DataFrame, mechanism: str) -> list[float]:
    """The epsilons that there are stored heads of a mechanism at, smallest first."""
    return sorted(map(float, heads.loc[heads["mechanism"] == mechanism, "epsilon"].dropna().unique()))


def seeds_of(heads: pd.DataFrame, setting: Setting) -> list[str]:
    """All stored heads of a setting whatever their seed: runs that differ by their noise alone."""
    found = _alike(heads, setting)
    found = found[_mask(found, [_findings_meet(text, setting) for text in found["findings"]])]
    if not setting.as_reported:
        found = found[found["unit"] == setting.unit]
    return [str(name) for name in found["head"]]


def live(entry: Entry, setting: Setting, *, signal: bool = True) -> Live:
    """The one-shot head of a setting, made now, and how cosine links under it. The head is not stored.

    Raises as `made_now` does.
    """
    heads, run = made_now(entry, setting, signal=signal)
    name = f"{setting.mechanism}-eps{setting.epsilon:g}"
    return Live(heads, run, study_of(entry, name, heads))


def made_now(entry: Entry, setting: Setting, *, signal: bool = True) -> tuple[Heads, accounting.Run]:
    """The one-shot head of a setting, and what was done to the training units. Without `signal` every sum is zero and
    the noise is left.

    With secret noise (seed None) every call is one more release of the same patients.
    Raises InputError for a mechanism that is trained step by step, where no sums and no training pairs are at hand, and
    for a delta of 1/n or more.
    """
    trains = (entry.records()["split"] == FINETUNE).any()
    if trains and (problem := why_untested(entry, attackers=False)):
        raise problem  # else the patients who made the head would be those it is measured on
    made = sums(entry, setting)
    delta, _ = accounting.delta_for(made.n_units, setting.delta)
    if not signal:
        made = made.without_signal()
    if not signal and math.isinf(setting.epsilon):
        raise InputError("Without noise nothing is left of a noise-only control.", "Choose a finite epsilon.")
    source = System() if setting.seed is None else Seeded(setting.seed)
    heads = made.heads(setting.epsilon, delta, source)
    if setting.learns_findings:
        heads = _rows(heads, [made.findings.index(name) for name in setting.findings])
    return heads, made.run(setting.epsilon, delta)


def train(entry: Entry, setting: Setting, progress: Progress = silent) -> str:
    """Trains the head of a setting and keeps it in the entry; returns its name."""
    return measured.train(entry, setting.mechanism, setting.options(), setting.name(), progress)


def measure(entry: Entry, setting: Setting, progress: Progress = silent) -> None:
    """Runs the attackers and readers on the head of a setting and, where that is not done, on the heads as they came.

    A one-shot head that is not stored is made and kept first.
    """
    name = stored(measured.heads(entry), setting) or train(entry, setting, progress)
    entry = entry.again()
    if not measured.measured(entry, OFF_THE_SHELF):
        entry = measured.measure(entry, OFF_THE_SHELF, progress=progress)
    measured.measure(entry, name, progress=progress)


def sums(entry: Entry, setting: Setting) -> oneshot.Prepared:
    """Clipped sums for a one-shot setting: those kept in the entry, else made from the training pairs.

    Kept sums of all findings serve a shorter list too, whose head is some rows of the noised one: post-processing, so
    the guarantee stays. Raises InputError where there is nothing to make them from.
    """
    kept = measured.prepared(entry, setting.mechanism, setting.unit)
    needed = setting.findings if setting.learns_findings else ()
    if not needed and setting.learns_findings:
        raise InputError("No finding is declared.", "A label head needs at least one.")
    if kept is not None and set(needed) <= set(kept.findings):
        return kept
    problem = why_no_pairs(entry)
    if problem is not None:
        raise problem
    return _prepared(entry, setting.mechanism, setting.unit, needed)


@lru_cache(maxsize=4)
def _prepared(entry: Entry, mechanism: str, unit: str, findings: tuple[str, ...]) -> oneshot.Prepared:
    return finetune.prepare(mechanism, training.training_pairs(entry), unit, findings or LABELS)


def why_no_pairs(entry: Entry) -> InputError | None:
    """Why nothing can be trained for this entry, with the command that helps; None where pairs are at hand."""
    if (entry.records()["split"] == FINETUNE).any():
        return None
    beside = f"{entry.cohort}-finetune"
    if entry.model in entry.store.models(beside):
        return None
    return InputError(
        f"{entry.cohort}/{entry.model} has no split finetune, and the store no cohort {beside}: there are no pairs to "
        "train on.",
        _how_to_get_pairs(entry),
    )


def _how_to_get_pairs(entry: Entry) -> str:
    """What helps where there are no pairs to train on, for this very cohort."""
    cohort, model = entry.manifest["cohort"], str(entry.manifest["model"]["name"])
    if entry.cohort == "phantom":
        return "Draw and embed them: `linkage phantom build --splits finetune`"
    if cohort["kind"] in FILE_KINDS and cohort.get("root"):
        command = f"linkage embed {cohort['kind']} {shlex.quote(cohort['root'])} --model {shlex.quote(model)}"
        return f"Embed it again with three splits by patient: `{command} --splits 60/20/20`"
    if cohort["kind"] in WEB_KINDS:
        address = shlex.quote(str(cohort.get("options", {}).get("url", "")))
        command = f"linkage embed {cohort['kind']} {address} --reports ... --model {shlex.quote(model)}"
        return f"Embed it again with three splits by patient: `{command} --splits 60/20/20`"
    if cohort["kind"] in PHANTOM_SITES:
        return "Choose another cohort: this one is there to carry heads to, and is not trained on."
    return (
        f"Import it again, without a column `split` or with finetune in it: `linkage import {entry.cohort}/{model} ...`"
    )


def _alike(heads: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    near = _mask(heads, [math.isclose(epsilon, setting.epsilon, rel_tol=1e-3) for epsilon in heads["epsilon"]])
    return heads[(heads["mechanism"] == setting.mechanism) & near]


def _mask(rows: pd.DataFrame, values: list[bool]) -> pd.Series:
    return pd.Series(values, index=rows.index, dtype=bool)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(", ") if part)


def _findings_meet(text: str, setting: Setting) -> bool:
    return not setting.learns_findings or _listed(text) == setting.findings


def _rows(heads: Heads, rows: list[int]) -> Heads:
    return Heads(*(Linear(tower.weight[rows], tower.bias[rows]) for tower in (heads.image, heads.text)))
