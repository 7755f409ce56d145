"""Who is in the phantom: patients, their studies and what each image shows, all from a seed.

Nothing is stored. A record id such as ``A-400123-2-PA`` (site, patient, study, view) and the seed regenerate the scene
and the report. Every draw comes from a numpy SeedSequence over (seed, site, patient, study, purpose), so reports can be
rewritten without moving a single image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np

from linkage_core.cohorts.phantom.scene import Anatomy, Device, Finding, Scene, Side, View, Zone
from linkage_core.errors import InputError

SEED = 0
"""Of the phantom that ships."""

Site = Literal["A", "B"]
Change = Literal["", "new", "stable", "worse", "better"]
T = TypeVar("T")

PATIENTS: dict[str, dict[str, range]] = {
    "A": {
        "encoder": range(100_000, 109_600),
        "finetune": range(200_000, 231_600),
        "attacker": range(300_000, 305_400),
        "heldout": range(400_000, 405_400),
    },
    "B": {"heldout": range(400_000, 401_450)},
}
"""Patient numbers of each split. Disjoint by construction; the encoders are trained on `encoder` alone."""

SINGLE_VIEW_SPLITS = ("finetune", "attacker")
"""Splits that keep only the frontal image of a study: there one pair is one study."""

# How often a finding arises, by where the patient is seen: outpatient, emergency, intensive care.
_PREVALENCE: dict[str, tuple[float, float, float]] = {
    "cardiomegaly": (0.13, 0.18, 0.34),
    "enlarged cardiomediastinum": (0.02, 0.03, 0.06),
    "lung lesion": (0.08, 0.05, 0.03),
    "lung opacity": (0.05, 0.10, 0.16),
    "edema": (0.02, 0.10, 0.30),
    "consolidation": (0.01, 0.05, 0.10),
    "pneumonia": (0.03, 0.10, 0.12),
    "atelectasis": (0.08, 0.17, 0.38),
    "pneumothorax": (0.01, 0.03, 0.08),
    "pleural effusion": (0.05, 0.14, 0.38),
    "pleural other": (0.05, 0.04, 0.03),
    "fracture": (0.03, 0.06, 0.05),
}
_PERSISTENCE: dict[str, float] = {
    "cardiomegaly": 0.97,
    "enlarged cardiomediastinum": 0.9,
    "lung lesion": 0.92,
    "pleural other": 0.97,
    "fracture": 0.85,
}
_ACUTE_PERSISTENCE = 0.62
_FOCAL = frozenset({"lung lesion", "lung opacity", "consolidation", "pneumonia", "atelectasis"})
_LATERAL = frozenset({"pneumothorax", "pleural effusion", "pleural other", "fracture"})

# Lines and tubes of intensive care come and go; implants stay.
_TUBES: dict[str, float] = {
    "endotracheal tube": 0.40,
    "enteric tube": 0.42,
    "central line": 0.40,
    "picc": 0.16,
    "chest tube": 0.10,
}
_IMPLANTS: dict[str, float] = {"port": 0.05, "pacemaker": 0.08, "sternal wires": 0.09, "valve prosthesis": 0.03}

_FINDINGS, _REPORT, _IMAGE = 0, 1, 2  # purposes of a stream of draws


class Draws:
    """A stream of random choices from one key. Blocks of uniforms keep it quick; nothing else touches the generator."""

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        self._block: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        if not self._block:
            self._block = self._generator.random(64).tolist()
        return low + (high - low) * self._block.pop()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def normal(self, mean: float = 0.0, spread: float = 1.0) -> float:
        """Gaussian, by Box and Muller."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.uniform()))
        return mean + spread * radius * math.cos(2.0 * math.pi * self.uniform())

    def pick(self, items: Sequence[T]) -> T:
        """One item, all equally likely."""
        return items[int(self.uniform() * len(items))]

    def weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One item, by weight."""
        left = self.uniform() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            left -= weight
            if left < 0:
                return item
        return items[-1]

    def integer(self) -> int:
        """A 31-bit number, for the seeds of textures."""
        return int(self.uniform() * 2**31)


@dataclass(frozen=True)
class Study:
    """One examination: what is there, and how it compares with the examination before."""

    site: Site
    patient: int
    number: int  # 1, 2, ...
    anatomy: Anatomy
    findings: tuple[Finding, ...]
    changes: tuple[Change, ...]  # one per finding; "" in a first study
    resolved: tuple[str, ...]  # kinds seen in the study before and gone now
    devices: tuple[Device, ...]
    device_changes: tuple[Change, ...]
    removed: tuple[str, ...]  # devices of the study before that are gone
    views: tuple[View, ...]

    @property
    def patient_id(self) -> str:
        """Such as A-400123."""
        return f"{self.site}-{self.patient}"

    @property
    def study_id(self) -> str:
        """Such as A-400123-2."""
        return f"{self.site}-{self.patient}-{self.number}"

    def record_id(self, view: View) -> str:
        """Such as A-400123-2-PA."""
        return f"{self.study_id}-{view}"


def _stream(seed: int, site: Site, patient: int, study: int, purpose: int) -> Draws:
    return Draws(seed, ord(site), patient, study, purpose)


def report_draws(study: Study, seed: int) -> Draws:
    """The stream that writes this study's report."""
    return _stream(seed, study.site, study.patient, study.number, _REPORT)


def _anatomy(draws: Draws) -> Anatomy:
    sex: Literal["F", "M"] = "F" if draws.chance(0.48) else "M"
    age = int(min(95, max(18, draws.normal(61, 17))))
    return Anatomy(
        sex=sex,
        age=age,
        habitus=_clip(draws.normal(0, 0.45)),
        chest_shape=_clip(draws.normal(0, 0.4)),
        heart_size=min(0.50, max(0.40, draws.normal(0.45, 0.025))),
        aorta=min(1.0, max(0.0, draws.normal(0.1 + 0.7 * (age - 18) / 77, 0.18))),
        scoliosis=_clip(draws.normal(0, 0.3)),
        rib_slope=min(1.0, max(0.0, draws.normal(0.5, 0.2))),
        diaphragm=_clip(draws.normal(0, 0.4)),
        hila=min(1.0, max(0.0, draws.normal(0.4, 0.2))),
    )


def _clip(value: float) -> float:
    return min(1.0, max(-1.0, value))


def _new_finding(kind: str, draws: Draws) -> Finding:
    side: Side = ""
    zone: Zone = ""
    if kind in _FOCAL:
        side = draws.weighted(("left", "right", "bilateral"), (0.42, 0.42, 0.16))
        weights = {"atelectasis": (0.05, 0.15, 0.8), "lung lesion": (0.45, 0.35, 0.2)}.get(kind, (0.2, 0.3, 0.5))
        zone = draws.weighted(("upper", "mid", "lower"), weights)
        if kind == "lung lesion" and side == "bilateral":
            side = "right"
    elif kind in _LATERAL:
        shares = {"pleural effusion": (0.32, 0.34, 0.34), "pneumothorax": (0.48, 0.5, 0.02)}.get(
            kind, (0.46, 0.46, 0.08)
        )
        side = draws.weighted(("left", "right", "bilateral"), shares)
        if kind == "fracture":
            zone = draws.weighted(("upper", "mid", "lower"), (0.25, 0.45, 0.3))
    severity = min(1.0, max(0.08, draws.normal(0.45, 0.24)))
    return Finding(kind, side, zone, severity, draws.uniform(-1, 1), draws.uniform(-1, 1), draws.integer())


def _evolved(finding: Finding, draws: Draws) -> tuple[Finding, Change]:
    shift = draws.normal(0, 0.08 if finding.kind in _PERSISTENCE else 0.2)
    severity = min(1.0, max(0.08, finding.severity + shift))
    change: Change = (
        "worse" if severity > finding.severity + 0.1 else "better" if severity < finding.severity - 0.1 else "stable"
    )
    return replace(finding, severity=severity), change


def _new_device(kind: str, draws: Draws) -> Device:
    left_share = {"pacemaker": 0.88, "port": 0.3, "central line": 0.25, "picc": 0.4, "chest tube": 0.5}.get(kind)
    side: Side = "" if left_share is None else "left" if draws.chance(left_share) else "right"
    return Device(kind, side, min(1.0, max(0.0, draws.normal(0.5, 0.18))), draws.integer())


def _views(setting: int, draws: Draws) -> tuple[View, ...]:
    if setting == 2 or (setting == 1 and draws.chance(0.45)):
        return ("AP",)
    return ("PA", "LATERAL") if draws.chance(0.44) else ("PA",)


@lru_cache(maxsize=256)
def patient_studies(site: Site, patient: int, seed: int = SEED) -> tuple[Study, ...]:
    """All studies of one patient, oldest first. Findings persist, change, resolve and arise between studies."""
    build = _stream(seed, site, patient, 0, _FINDINGS)
    anatomy = _anatomy(build)
    setting = build.weighted((0, 1, 2), (0.48, 0.30, 0.22) if site == "A" else (0.35, 0.35, 0.30))
    number_of_studies = 1 + min(7, int(-math.log(1.0 - build.uniform()) * (1.1, 1.3, 2.4)[setting]))
    elderly = (anatomy.age - 18) / 77
    implants = [
        _new_device(kind, build) for kind, share in _IMPLANTS.items() if build.chance(share * (0.3 + 1.4 * elderly))
    ]

    studies: list[Study] = []
    findings: tuple[Finding, ...] = ()
    devices: tuple[Device, ...] = ()
    for number in range(1, number_of_studies + 1):
        draws = _stream(seed, site, patient, number, _FINDINGS)
        now: list[Finding] = []
        changes: list[Change] = []
        for finding in findings:
            if draws.chance(_PERSISTENCE.get(finding.kind, _ACUTE_PERSISTENCE)):
                finding, change = _evolved(finding, draws)
                now.append(finding)
                changes.append(change)
        there = {finding.kind for finding in now}
        for kind, shares in _PREVALENCE.items():
            rate = shares[setting] * (0.6 + 0.8 * elderly)
            if number > 1:
                rate *= 0.12 if kind in _PERSISTENCE else 0.5
            if draws.chance(rate) and kind not in there:
                now.append(_new_finding(kind, draws))
                changes.append("new" if number > 1 else "")
        lines: list[Device] = [device for device in devices if device.kind in _TUBES and draws.chance(0.7)]
        have = {device.kind for device in lines}
        if setting == 2:
            rate_scale = 1.0 if number == 1 else 0.25
            lines += [
                _new_device(k, draws)
                for k, share in _TUBES.items()
                if draws.chance(share * rate_scale) and k not in have
            ]
        present = tuple(implants) + tuple(lines)
        before = {device.kind for device in devices}
        current_kinds = {finding.kind for finding in now}
        studies.append(
            Study(
                site=site,
                patient=patient,
                number=number,
                anatomy=anatomy,
                findings=tuple(now),
                changes=tuple(changes),
                resolved=tuple(f.kind for f in findings if f.kind not in current_kinds),
                devices=present,
                device_changes=tuple("" if number == 1 else "stable" if d.kind in before else "new" for d in present),
                removed=tuple(d.kind for d in devices if d not in present),
                views=_views(setting, draws),
            )
        )
        findings, devices = tuple(now), present
    return tuple(studies)


def split_of(site: Site, patient: int) -> str:
    """The split a patient belongs to; InputError where the number belongs to none."""
    for split, numbers in PATIENTS[site].items():
        if patient in numbers:
            return split
    known = ", ".join(f"{split} {numbers.start}..{numbers.stop - 1}" for split, numbers in PATIENTS[site].items())
    raise InputError(f"The phantom's site {site} has no patient {patient}.", f"Its patients are: {known}.")


def studies_of_split(site: Site, split: str, seed: int = SEED, patients: int | None = None) -> Iterator[Study]:
    """The studies of one split, patient by patient; the first `patients` of them if given."""
    if split not in PATIENTS[site]:
        raise InputError(f"The phantom's site {site} has no split {split!r}.", f"It has: {', '.join(PATIENTS[site])}.")
    for patient in PATIENTS[site][split][:patients]:
        for study in patient_studies(site, patient, seed):
            yield replace(study, views=study.views[:1]) if split in SINGLE_VIEW_SPLITS else study


def parse_id(identifier: str) -> tuple[Site, int, int, View | None]:
    """A study or record id taken apart: site, patient number, study number, view (None for a study).

    >>> parse_id("A-400123-2-PA")
    ('A', 400123, 2, 'PA')
    """
    parts = identifier.split("-")
    well_formed = len(parts) in (3, 4) and parts[0] in PATIENTS and all(p.isascii() and p.isdigit() for p in parts[1:3])
    if not well_formed or parts[3:] not in ([], ["PA"], ["AP"], ["LATERAL"]):
        raise InputError(
            f"{identifier!r} is not the id of a phantom study or record.",
            "An id looks like A-400123-2 or A-400123-2-PA.",
        )
    view: View | None = parts[3] if len(parts) == 4 else None  # type: ignore[assignment]
    site: Site = parts[0]  # type: ignore[assignment]
    return site, int(parts[1]), int(parts[2]), view


def study_of(identifier: str, seed: int = SEED) -> Study:
    """The study behind a study id or record id; InputError where there is none."""
    site, patient, number, view = parse_id(identifier)
    split_of(site, patient)
    studies = patient_studies(site, patient, seed)
    if not 1 <= number <= len(studies):
        raise InputError(
            f"The phantom has no study {identifier!r} (seed {seed}).",
            f"Patient {site}-{patient} has {len(studies)} studies.",
        )
    study = studies[number - 1]
    if view is not None and view not in study.views:
        raise InputError(
            f"The phantom has no image {identifier!r} (seed {seed}).",
            f"That study has the views {', '.join(study.views)}.",
        )
    return study


def scene(study: Study, view: View, seed: int = SEED) -> Scene:
    """What one image of a study shows. The two views of a study share everything but rotation, exposure and noise."""
    order = ("PA", "AP", "LATERAL").index(view)
    draws = Draws(seed, ord(study.site), study.patient, study.number, _IMAGE, order)
    portable = view == "AP"
    return Scene(
        anatomy=study.anatomy,
        findings=study.findings,
        devices=study.devices,
        view=view,
        rotation=min(6.0, max(-6.0, draws.normal(0, 2.6 if portable else 1.4))),
        exposure=_clip(draws.normal(0, 0.4)),
        inspiration=min(1.0, max(0.0, draws.normal(0.5 if portable else 0.75, 0.18))),
        site=study.site,
        noise_seed=draws.integer(),
    )
