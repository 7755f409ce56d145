"""What is written about a study: reports by several readers, the 14 labels they imply, and shorter captions.

A reader first decides what to say (and what to leave out, hedge or get wrong), then writes it in a style of his own.
Labels follow the text: affirmed is 1, denied 0, hedged -1, unmentioned is missing. No date, age or identifier is ever
written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.phantom.population import Change, Draws, Study, report_draws, scene
from linkage_core.cohorts.phantom.scene import Device, Finding

Style = Literal["terse", "templated", "narrative", "itemised", "telegram", "checklist"]
CaptionLevel = Literal["general", "biomedical", "clinical"]


@dataclass(frozen=True)
class Habits:
    """How one site's readers work. Each is a share of the occasions, 0..1."""

    omission: float  # leaving out a mild finding (a severe one is left out less)
    side: float  # giving the side
    zone: float  # giving the zone
    severity: float  # giving a degree
    severity_noise: float  # spread of the reader's estimate of a degree of 0..1
    hedge: float  # hedging a mild finding
    devices: float  # mentioning a device
    change: float  # comparing with the study before
    brief: float  # dictating an impression alone
    template: float  # writing the standard text where there is nothing to say
    incidental: float  # mentioning what age and build alone explain
    technique: float  # naming the views
    confusion: float  # calling one kind of density by the name of another
    wrong_side: float


HABITS: dict[str, Habits] = {
    "A": Habits(
        omission=0.40,
        side=0.70,
        zone=0.50,
        severity=0.60,
        severity_noise=0.18,
        hedge=0.30,
        devices=0.70,
        change=0.45,
        brief=0.08,
        template=0.25,
        incidental=0.5,
        technique=0.35,
        confusion=0.30,
        wrong_side=0.02,
    ),
    "B": Habits(
        omission=0.35,
        side=0.85,
        zone=0.45,
        severity=0.45,
        severity_noise=0.22,
        hedge=0.35,
        devices=0.70,
        change=0.25,
        brief=0.15,
        template=0.45,
        incidental=0.4,
        technique=0.0,
        confusion=0.35,
        wrong_side=0.02,
    ),
}

READERS: dict[str, tuple[tuple[Style, int], ...]] = {
    "A": (
        ("terse", 0),
        ("terse", 1),
        ("templated", 0),
        ("templated", 1),
        ("templated", 2),
        ("narrative", 0),
        ("narrative", 1),
        ("narrative", 2),
        ("itemised", 0),
        ("itemised", 1),
    ),
    "B": (("telegram", 0), ("telegram", 1), ("checklist", 0), ("checklist", 1)),
}
"""The readers of each site: a style, and a number that fixes their pet phrases."""


@dataclass(frozen=True)
class _Term:
    label: str
    nouns: tuple[str, ...]  # one per pet phrase, cycled
    plural: str  # "" where the noun has none
    degrees: tuple[str, str, str]
    countable: bool


_TERMS: dict[str, _Term] = {
    "cardiomegaly": _Term(
        "Cardiomegaly",
        ("cardiomegaly", "enlargement of the cardiac silhouette"),
        "",
        ("mild", "moderate", "severe"),
        False,
    ),
    "enlarged cardiomediastinum": _Term(
        "Enlarged Cardiomediastinum",
        ("widening of the mediastinum", "mediastinal widening"),
        "",
        ("slight", "moderate", "marked"),
        False,
    ),
    "lung lesion": _Term("Lung Lesion", ("nodule", "nodular density"), "nodules", ("small", "", "large"), True),
    "lung opacity": _Term("Lung Opacity", ("opacity", "hazy opacity"), "opacities", ("faint", "", "dense"), True),
    "edema": _Term(
        "Edema",
        ("pulmonary edema", "interstitial edema", "pulmonary vascular congestion"),
        "",
        ("mild", "moderate", "severe"),
        False,
    ),
    "consolidation": _Term(
        "Consolidation", ("consolidation", "airspace consolidation"), "consolidations", ("subtle", "", "dense"), False
    ),
    "pneumonia": _Term("Pneumonia", ("pneumonia", "infectious infiltrate"), "", ("early", "", "extensive"), False),
    "atelectasis": _Term(
        "Atelectasis", ("atelectasis", "linear atelectasis"), "", ("minimal", "mild", "marked"), False
    ),
    "pneumothorax": _Term("Pneumothorax", ("pneumothorax",), "pneumothoraces", ("tiny", "moderate", "large"), True),
    "pleural effusion": _Term(
        "Pleural Effusion", ("pleural effusion", "effusion"), "pleural effusions", ("small", "moderate", "large"), True
    ),
    "pleural other": _Term(
        "Pleural Other", ("pleural thickening", "pleural plaque"), "", ("minor", "", "extensive"), False
    ),
    "fracture": _Term("Fracture", ("rib fracture",), "rib fractures", ("nondisplaced", "", "displaced"), True),
}
_DEGREE_EDGES = (0.38, 0.66)
_CONFUSED_WITH = {
    "consolidation": ("lung opacity", "pneumonia", "atelectasis"),
    "pneumonia": ("lung opacity", "consolidation"),
    "lung opacity": ("pneumonia", "atelectasis", "consolidation"),
    "atelectasis": ("lung opacity",),
    "edema": ("lung opacity",),
    "lung lesion": ("lung opacity",),
}
_ZONE_WORDS = {
    "upper": ("upper lobe", "upper zone", "upper lung"),
    "mid": ("mid lung", "midzone", "perihilar"),
    "lower": ("lower lobe", "basilar", "basal"),
}
_DEVICE_NAMES: dict[str, tuple[str, ...]] = {
    "endotracheal tube": ("endotracheal tube", "ET tube"),
    "enteric tube": ("enteric tube", "nasogastric tube"),
    "central line": ("central venous catheter", "internal jugular line"),
    "picc": ("PICC", "PICC line"),
    "port": ("port catheter", "chest port"),
    "pacemaker": ("pacemaker", "dual lead pacing device"),
    "chest tube": ("chest tube", "pleural drain"),
    "sternal wires": ("median sternotomy wires", "sternal wires"),
    "valve prosthesis": ("prosthetic heart valve", "valve replacement"),
}
_TIPS: dict[str, tuple[str, str, str]] = {
    "endotracheal tube": ("in high position", "in standard position above the carina", "low, close to the carina"),
    "enteric tube": (
        "with its side port above the diaphragm",
        "with its tip in the stomach",
        "coursing below the lower edge of the film",
    ),
    "central line": (
        "with its tip in the brachiocephalic vein",
        "with its tip in the SVC",
        "with its tip in the right atrium",
    ),
    "picc": (
        "with its tip in the axillary vein",
        "with its tip in the mid SVC",
        "with its tip at the cavoatrial junction",
    ),
    "port": ("with its tip in the upper SVC", "with its tip in the lower SVC", "with its tip in the right atrium"),
    "pacemaker": ("with leads in place", "with leads in the right atrium and right ventricle", "with leads in place"),
    "chest tube": ("directed to the apex", "in unchanged course", "directed to the base"),
}


@dataclass(frozen=True)
class _Said:
    """One finding as the reader puts it."""

    kind: str
    side: str
    zone: str
    degree: int | None  # 0, 1, 2
    hedged: bool
    change: Change


@dataclass
class _Writer:
    """Collects sentences of one report together with the labels they carry."""

    draws: Draws
    pet: int
    labels: dict[str, float] = field(default_factory=dict)

    def claim(self, label: str, value: int) -> None:
        """Affirmed beats hedged beats denied, whatever the order."""
        rank = {0: 0, -1: 1, 1: 2}
        if label not in self.labels or rank[value] > rank[int(self.labels[label])]:
            self.labels[label] = float(value)

    def word(self, choices: tuple[str, ...]) -> str:
        """The reader's pet choice mostly, any choice sometimes."""
        return choices[self.pet % len(choices)] if self.draws.chance(0.75) else self.draws.pick(choices)


@dataclass(frozen=True)
class Report:
    """A report and the labels that follow from it: label -> 1, 0 or -1; a label that is absent is missing."""

    text: str
    labels: dict[str, float]


# ---------------------------------------------------------------------------------------------- what the reader says


def _said(study: Study, habits: Habits, draws: Draws) -> list[_Said]:
    said = []
    for finding, change in zip(study.findings, study.changes, strict=True):
        if draws.chance(habits.omission * (1.25 - finding.severity)):
            continue
        kind = finding.kind
        if kind in _CONFUSED_WITH and draws.chance(habits.confusion):
            kind = draws.pick(_CONFUSED_WITH[kind])
        side: str = finding.side
        if side in ("left", "right") and draws.chance(habits.wrong_side):
            side = "left" if side == "right" else "right"
        estimate = finding.severity + draws.normal(0, habits.severity_noise)
        degree = sum(estimate > edge for edge in _DEGREE_EDGES) if draws.chance(habits.severity) else None
        said.append(
            _Said(
                kind,
                side if draws.chance(habits.side) else "",
                finding.zone if draws.chance(habits.zone) else "",
                degree,
                draws.chance(habits.hedge * (1.3 - finding.severity)),
                change if draws.chance(habits.change) else "",
            )
        )
    # Two findings may have ended under one name: one sentence is enough.
    unique: dict[tuple[str, str], _Said] = {}
    for item in said:
        unique.setdefault((item.kind, item.side), item)
    return list(unique.values())


def _said_devices(study: Study, habits: Habits, draws: Draws) -> list[Device]:
    return [device for device in study.devices if draws.chance(habits.devices)]


# ------------------------------------------------------------------------------------------------------------ phrases


def _phrase(item: _Said, writer: _Writer) -> str:
    """'small left pleural effusion', without article."""
    term = _TERMS[item.kind]
    plural = item.side == "bilateral" and bool(term.plural)
    noun = term.plural if plural else writer.word(term.nouns)
    zone = writer.word(_ZONE_WORDS[item.zone]) if item.zone else ""
    if item.kind == "fracture":
        zone = {"upper": "upper", "mid": "lateral", "lower": "lower"}.get(item.zone, "")
    if item.kind == "pneumothorax" and not zone and writer.draws.chance(0.4):
        zone = "apical"
    degree = term.degrees[item.degree] if item.degree is not None else ""
    return " ".join(word for word in (degree, item.side, zone, noun) if word)


def _with_article(phrase: str, item: _Said) -> str:
    term = _TERMS[item.kind]
    if not term.countable or (item.side == "bilateral" and term.plural):
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _sentence(item: _Said, writer: _Writer, full: bool) -> str:
    """One sentence (full) or fragment about a finding; enters its label."""
    draws = writer.draws
    phrase = _phrase(item, writer)
    label = _TERMS[item.kind].label
    many = item.side == "bilateral" and bool(_TERMS[item.kind].plural)
    verb = "are" if many else "is"
    if item.hedged:
        writer.claim(label, -1)
        if not full:
            return draws.pick((f"possible {phrase}", f"questionable {phrase}", f"cannot exclude {phrase}"))
        return draws.pick(
            (
                f"possible {phrase}",
                f"{phrase} cannot be excluded",
                f"findings may represent {phrase}",
                f"there may be {_with_article(phrase, item)}",
            )
        )
    writer.claim(label, 1)
    if item.change == "new":
        return (
            f"new {phrase}"
            if not full
            else draws.pick((f"there {verb} new {phrase}", f"new {phrase} since the prior study"))
        )
    if item.change:
        tail = {
            "stable": ("unchanged", "stable", "unchanged from prior"),
            "worse": ("increased", "worse than on the prior study", "progressed"),
            "better": ("decreased", "improved from prior", "smaller than before"),
        }[item.change]
        return f"{phrase}, {writer.word(tail)}"
    if not full:
        return phrase
    if item.kind == "cardiomegaly" and draws.chance(0.5):
        degree = "" if item.degree is None else ("mildly ", "moderately ", "severely ")[item.degree]
        return draws.pick((f"the heart is {degree}enlarged", f"the cardiac silhouette is {degree}enlarged"))
    return draws.pick(
        (f"there {verb} {_with_article(phrase, item)}", f"{phrase} {verb} present", f"{phrase} {verb} noted", phrase)
    )


def _device_phrase(device: Device, study: Study, habits: Habits, writer: _Writer, full: bool) -> str:
    draws = writer.draws
    writer.claim("Support Devices", 1)
    name = writer.word(_DEVICE_NAMES[device.kind])
    side = f"{device.side} " if device.side and draws.chance(habits.side) else ""
    phrase = f"{side}{name}"
    change = study.device_changes[study.devices.index(device)]
    if device.kind in _TIPS and draws.chance(0.6 if full else 0.25):
        estimate = device.tip + draws.normal(0, 0.1)
        phrase += f" {_TIPS[device.kind][sum(estimate > edge for edge in (0.33, 0.68))]}"
    elif change == "stable" and draws.chance(habits.change):
        phrase += writer.word((" unchanged", " in unchanged position"))
    elif change == "new" and draws.chance(habits.change):
        phrase = f"new {phrase}"
    elif full and device.kind in ("sternal wires", "valve prosthesis"):
        phrase += " noted"
    return phrase


def _start(text: str) -> str:
    return text[0].upper() + text[1:]


def _stop(sentences: list[str]) -> str:
    return " ".join(f"{_start(sentence)}." for sentence in sentences)


def _listed(items: list[str], last: str = "or") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def _deny(writer: _Writer, said_kinds: set[str], kinds: tuple[str, ...]) -> str:
    """'no pneumothorax or pleural effusion' for those of `kinds` that were not said; '' if none is left."""
    names = {
        "consolidation": "focal consolidation",
        "fracture": "acute fracture",
        "edema": "pulmonary edema",
    }
    absent = [kind for kind in kinds if kind not in said_kinds]
    for kind in absent:
        writer.claim(_TERMS[kind].label, 0)
    return f"no {_listed([names.get(kind, kind) for kind in absent])}" if absent else ""


def _gone(study: Study, said_kinds: set[str], habits: Habits, writer: _Writer) -> list[str]:
    """What the study before showed and this one does not, where the reader mentions it."""
    sentences = []
    for kind in study.resolved:
        if kind not in said_kinds and writer.draws.chance(habits.change * 0.6):
            writer.claim(_TERMS[kind].label, 0)
            sentences.append(f"previously seen {_TERMS[kind].nouns[0]} has resolved")
    for kind in study.removed:
        if writer.draws.chance(habits.change * 0.5):
            sentences.append(f"interval removal of the {_DEVICE_NAMES[kind][0]}")
    return sentences


_CALM: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lungs": (
        ("Lung Opacity",),
        (
            "the lungs are clear",
            "the lungs are well expanded and clear",
            "no focal airspace opacity",
            "lungs are clear bilaterally",
        ),
    ),
    "heart": (
        ("Cardiomegaly",),
        (
            "heart size is normal",
            "the heart is not enlarged",
            "the heart is normal in size",
            "cardiac silhouette is normal",
        ),
    ),
    "contours": (
        ("Cardiomegaly", "Enlarged Cardiomediastinum"),
        (
            "the cardiomediastinal silhouette is within normal limits",
            "the heart and mediastinum are normal",
            "cardiac and mediastinal contours are unremarkable",
            "mediastinal and cardiac contours are stable and normal",
        ),
    ),
    "bones": (
        ("Fracture",),
        (
            "no acute osseous abnormality",
            "bony structures are intact",
            "no displaced fracture is seen",
            "osseous structures are unremarkable",
        ),
    ),
}
"""Stock sentences about what is normal, and the labels they deny."""


def _calm(topic: str, writer: _Writer) -> str:
    labels, sentences = _CALM[topic]
    for label in labels:
        writer.claim(label, 0)
    return writer.word(sentences)


def _incidental(study: Study, habits: Habits, seed: int, draws: Draws) -> list[str]:
    """What age, build and technique alone explain; none of it is one of the 14 labels."""
    build, frontal = study.anatomy, scene(study, study.views[0], seed)
    candidates: list[tuple[bool, tuple[str, ...]]] = [
        (build.aorta > 0.62, ("the aorta is tortuous", "tortuous and calcified aorta", "aortic arch calcification")),
        (abs(build.scoliosis) > 0.42, ("scoliosis of the thoracic spine", "mild thoracic curvature")),
        (build.age > 66, ("degenerative changes of the spine", "mild spondylosis")),
        (frontal.inspiration < 0.48, ("low lung volumes", "the lungs are underinflated")),
        (abs(frontal.rotation) > 3.0, ("the patient is rotated", "rotation limits the assessment of the mediastinum")),
        (build.habitus > 0.6, ("evaluation is limited by body habitus",)),
        (build.diaphragm > 0.55, ("elevation of the diaphragm", "both hemidiaphragms are high")),
        (build.hila > 0.66, ("prominent hilar vessels", "the hila are prominent")),
    ]
    return [draws.pick(phrases) for present, phrases in candidates if present and draws.chance(habits.incidental)]


def _technique(study: Study, draws: Draws) -> str:
    """The views, in words."""
    if len(study.views) == 2:
        return draws.pick(("PA and lateral views of the chest", "frontal and lateral chest radiographs"))
    if study.views[0] == "AP":
        return draws.pick(("portable AP chest radiograph", "single portable view of the chest"))
    return draws.pick(("frontal view of the chest", "single PA radiograph"))


# ------------------------------------------------------------------------------------------------------------- styles

_NORMAL: dict[Style, tuple[str, ...]] = {
    "terse": ("IMPRESSION: No acute cardiopulmonary process.", "IMPRESSION: Normal chest."),
    "templated": (
        "FINDINGS: The lungs are clear. The cardiomediastinal silhouette is within normal limits. No pleural effusion "
        "or pneumothorax. No acute osseous abnormality.\nIMPRESSION: No acute cardiopulmonary process.",
        "FINDINGS: Heart size is normal. The lungs are clear. No pleural effusion or pneumothorax is seen.\n"
        "IMPRESSION: No acute cardiopulmonary abnormality.",
        "FINDINGS: No focal consolidation, pleural effusion or pneumothorax. The cardiomediastinal silhouette is "
        "within normal limits.\nIMPRESSION: No evidence of acute disease.",
    ),
    "narrative": (
        "FINDINGS: The lungs are well expanded and clear. Heart size is normal. There is no pleural effusion or "
        "pneumothorax.\nIMPRESSION: No radiographic evidence of an acute process.",
        "FINDINGS: The lungs are clear without focal consolidation. No pleural effusion or pneumothorax is seen. Heart "
        "size is normal.\nIMPRESSION: Unremarkable chest radiograph.",
        "FINDINGS: Cardiac and mediastinal contours are normal. The lungs are clear. Pleural surfaces are "
        "unremarkable.\nIMPRESSION: No acute cardiopulmonary process.",
    ),
    "itemised": (
        "Lines/tubes: None.\nLungs: Clear.\nPleura: No pleural effusion or pneumothorax.\nHeart: Normal in size.\n"
        "Bones: Unremarkable.\nIMPRESSION: No acute disease.",
        "Lungs: Clear.\nPleura: No pleural effusion or pneumothorax.\nHeart and mediastinum: Normal.\n"
        "IMPRESSION: Normal study.",
    ),
    "telegram": (
        "RESULT: Lungs expanded, no infiltrate. Sinuses free. Cor of normal size. CONCLUSION: Normal thorax.",
        "RESULT: No infiltrate, no effusion, no pneumothorax. CONCLUSION: No pathology.",
    ),
    "checklist": (
        "Heart - normal | Lung fields - clear | Pleura - free | Skeleton - intact | Opinion - normal",
        "Heart - normal | Lung fields - clear | Pleura - free | Opinion - no active disease",
    ),
}
_NORMAL_LABELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("lungs are clear", ("Lung Opacity",)),
    ("expanded and clear", ("Lung Opacity",)),
    ("lungs: clear", ("Lung Opacity",)),
    ("lung fields - clear", ("Lung Opacity",)),
    ("focal consolidation", ("Consolidation",)),
    ("no infiltrate", ("Lung Opacity",)),
    ("pleural effusion", ("Pleural Effusion",)),
    ("no effusion", ("Pleural Effusion",)),
    ("sinuses free", ("Pleural Effusion",)),
    ("pleura - free", ("Pleural Effusion",)),
    ("pneumothorax", ("Pneumothorax",)),
    ("heart size is normal", ("Cardiomegaly",)),
    ("heart: normal", ("Cardiomegaly",)),
    ("heart - normal", ("Cardiomegaly",)),
    ("cor of normal size", ("Cardiomegaly",)),
    ("heart and mediastinum: normal", ("Cardiomegaly", "Enlarged Cardiomediastinum")),
    ("cardiomediastinal silhouette is within normal", ("Cardiomegaly", "Enlarged Cardiomediastinum")),
    ("cardiac and mediastinal contours are normal", ("Cardiomegaly", "Enlarged Cardiomediastinum")),
    ("osseous abnormality", ("Fracture",)),
    ("bones: unremarkable", ("Fracture",)),
    ("skeleton - intact", ("Fracture",)),
)
"""Phrases of the standard texts and what they deny."""


def _standard(style: Style, writer: _Writer) -> str:
    text = _NORMAL[style][writer.pet % len(_NORMAL[style])]
    for phrase, labels in _NORMAL_LABELS:
        if phrase in text.lower():
            for label in labels:
                writer.claim(label, 0)
    return text


_HEART = ("cardiomegaly", "enlarged cardiomediastinum")
_LUNGS = ("lung lesion", "lung opacity", "edema", "consolidation", "pneumonia", "atelectasis")
_PLEURA = ("pneumothorax", "pleural effusion", "pleural other")
_BONES = ("fracture",)


def _impression(said: list[_Said], devices: list[Device], study: Study, habits: Habits, writer: _Writer) -> list[str]:
    """The conclusion: the gravest findings again, shorter."""
    ranked = sorted(said, key=lambda item: (item.hedged, -(item.degree if item.degree is not None else 1)))
    lines = [_sentence(item, writer, full=False) for item in ranked[: writer.draws.pick((1, 2, 3))]]
    if not lines:
        lines = [writer.word(("no acute cardiopulmonary process", "no acute disease", "no evidence of acute disease"))]
        if devices and writer.draws.chance(0.3):
            writer.claim("Support Devices", 1)
            lines.append(writer.word(("lines and tubes as above", "support devices as described")))
    elif study.number > 1 and all(item.change in ("", "stable") for item in said) and writer.draws.chance(0.15):
        lines.append("no significant interval change")
    return lines


def _terse(
    said: list[_Said], devices: list[Device], extras: list[str], study: Study, habits: Habits, writer: _Writer
) -> str:
    kinds = {item.kind for item in said}
    lines = [_sentence(item, writer, full=False) for item in said]
    lines += [_device_phrase(device, study, habits, writer, full=False) for device in devices]
    if writer.draws.chance(0.35):
        denial = _deny(
            writer,
            kinds,
            writer.draws.pick((("pneumothorax",), ("pleural effusion", "pneumothorax"), ("consolidation",))),
        )
        lines += [denial] if denial else []
    lines += extras[:1]
    if not said:
        lines.append(
            writer.word(("no acute cardiopulmonary process", "no acute disease", "no evidence of acute disease"))
        )
    return f"IMPRESSION: {_stop(lines)}"


def _prose(
    said: list[_Said],
    devices: list[Device],
    extras: list[str],
    study: Study,
    habits: Habits,
    writer: _Writer,
    full: bool,
) -> str:
    """FINDINGS and IMPRESSION; `full` in whole sentences (narrative), else in anatomical order with stock sentences."""
    draws, kinds = writer.draws, {item.kind for item in said}
    lines = [_technique(study, draws)] if draws.chance(habits.technique) else []
    lines += [_device_phrase(device, study, habits, writer, full=True) for device in devices]
    by_group = [[item for item in said if item.kind in group] for group in (_LUNGS, _PLEURA, _HEART, _BONES)]
    if full:
        groups = by_group if writer.pet % 2 else by_group[::-1]
        for group in groups:
            lines += [_sentence(item, writer, full=True) for item in group]
        lines += _gone(study, kinds, habits, writer)
        if draws.chance(0.8):
            wanted = draws.pick(
                (("pleural effusion", "pneumothorax"), ("pneumothorax",), ("consolidation", "pneumothorax"))
            )
            denial = _deny(writer, kinds, wanted)
            lines += [denial.replace("no ", "there is no ", 1)] if denial else []
        if not kinds & set(_LUNGS) and draws.chance(0.6):
            lines.append(_calm("lungs", writer))
        if not kinds & set(_HEART) and draws.chance(0.6):
            lines.append(_calm("heart", writer))
        if not kinds & set(_BONES) and draws.chance(0.3):
            lines.append(_calm("bones", writer))
        lines += extras
    else:
        lungs, pleura, heart, bones = ([_sentence(item, writer, full=True) for item in group] for group in by_group)
        lungs = lungs or [_calm("lungs", writer)]
        denial = _deny(writer, kinds, ("pleural effusion", "pneumothorax"))
        pleura += [denial] if denial else []
        if not heart and draws.chance(0.85):
            heart = [_calm("contours", writer)]
        if not bones and draws.chance(0.4):
            bones = [_calm("bones", writer)]
        lines += [*lungs, *pleura, *heart, *bones, *extras, *_gone(study, kinds, habits, writer)]
    return f"FINDINGS: {_stop(lines)}\nIMPRESSION: {_stop(_impression(said, devices, study, habits, writer))}"


def _itemised(
    said: list[_Said], devices: list[Device], extras: list[str], study: Study, habits: Habits, writer: _Writer
) -> str:
    kinds = {item.kind for item in said}
    tubes = [_device_phrase(device, study, habits, writer, full=True) for device in devices]
    lungs = [_sentence(item, writer, full=False) for item in said if item.kind in _LUNGS]
    if not lungs:
        writer.claim("Lung Opacity", 0)
        lungs = [writer.word(("clear", "clear bilaterally", "well aerated"))]
    pleura = [_sentence(item, writer, full=False) for item in said if item.kind in _PLEURA]
    denial = _deny(writer, kinds, ("pleural effusion", "pneumothorax"))
    pleura += [denial] if denial else []
    heart = [_sentence(item, writer, full=False) for item in said if item.kind in _HEART]
    if not heart:
        writer.claim("Cardiomegaly", 0)
        heart = [writer.word(("normal in size", "not enlarged", "normal"))]
    bones = [_sentence(item, writer, full=False) for item in said if item.kind in _BONES]
    if not bones and writer.pet % 2 == 0:
        writer.claim("Fracture", 0)
        bones = [writer.word(("unremarkable", "no acute fracture", "intact"))]
    parts = [("Lines/tubes", tubes or (["none"] if writer.pet % 2 == 0 else [])), ("Lungs", lungs), ("Pleura", pleura)]
    parts += [("Heart", heart), ("Bones", bones), ("Other", extras)]
    body = "\n".join(f"{heading}: {_stop(lines)}" for heading, lines in parts if lines)
    return f"{body}\nIMPRESSION: {_stop(_impression(said, devices, study, habits, writer))}"


_B_NOUNS: dict[str, str] = {
    "cardiomegaly": "cor enlarged",
    "enlarged cardiomediastinum": "upper mediastinum broadened",
    "lung lesion": "round focus",
    "lung opacity": "shadowing",
    "edema": "vascular stasis",
    "consolidation": "infiltration",
    "pneumonia": "pneumonic infiltrate",
    "atelectasis": "plate-like collapse",
    "pneumothorax": "pneumothorax",
    "pleural effusion": "effusion",
    "pleural other": "pleural scarring",
    "fracture": "costal fracture",
}
_B_ZONES = {"upper": "apical", "mid": "middle field", "lower": "basal"}
_B_DEGREES = ("slight", "moderate", "pronounced")


def _b_phrase(item: _Said, writer: _Writer) -> str:
    label = _TERMS[item.kind].label
    writer.claim(label, -1 if item.hedged else 1)
    words = [_B_NOUNS[item.kind], item.side if item.side != "bilateral" else "both sides", _B_ZONES.get(item.zone, "")]
    words.append(_B_DEGREES[item.degree] if item.degree is not None else "")
    phrase = " ".join(word for word in words if word)
    trend = {"": "", "new": "first seen now", "stable": "as before", "worse": "increasing", "better": "regressing"}[
        item.change
    ]
    return f"{'suspected ' if item.hedged else ''}{phrase}{', ' + trend if trend else ''}"


def _telegram(
    said: list[_Said], devices: list[Device], extras: list[str], study: Study, habits: Habits, writer: _Writer
) -> str:
    kinds = {item.kind for item in said}
    lines = [_b_phrase(item, writer) for item in said]
    lines += [_device_phrase(device, study, habits, writer, full=False) for device in devices]
    denial = _deny(writer, kinds, ("pleural effusion", "pneumothorax") if writer.pet else ("pneumothorax",))
    lines += [denial] if denial else []
    lines += extras
    closing = [_b_phrase(item, writer) for item in said[:1]] or [
        writer.word(("no active disease", "no fresh pathology"))
    ]
    return f"RESULT: {_stop(lines or ['nothing of note'])} CONCLUSION: {_stop(closing)}"


def _checklist(
    said: list[_Said], devices: list[Device], extras: list[str], study: Study, habits: Habits, writer: _Writer
) -> str:
    rows = []
    denials = {
        "Heart": ("Cardiomegaly",),
        "Lung fields": ("Lung Opacity",),
        "Pleura": ("Pleural Effusion",),
        "Skeleton": ("Fracture",),
    }
    quiet = {"Heart": "normal", "Lung fields": "clear", "Pleura": "free", "Skeleton": "intact"}
    for heading, group in (("Heart", _HEART), ("Lung fields", _LUNGS), ("Pleura", _PLEURA), ("Skeleton", _BONES)):
        here = [_b_phrase(item, writer) for item in said if item.kind in group]
        if not here:
            for label in denials[heading]:
                writer.claim(label, 0)
        rows.append(f"{heading} - {'; '.join(here) or quiet[heading]}")
    if devices:
        rows.append(
            f"Foreign material - {'; '.join(_device_phrase(d, study, habits, writer, full=False) for d in devices)}"
        )
    if extras:
        rows.append(f"Other - {'; '.join(extras)}")
    rows.append(f"Opinion - {_b_phrase(said[0], writer) if said else 'no active disease'}")
    return " | ".join(rows)


def _written(
    style: Style,
    said: list[_Said],
    devices: list[Device],
    extras: list[str],
    study: Study,
    habits: Habits,
    writer: _Writer,
) -> str:
    if not said and not devices and not extras and writer.draws.chance(habits.template):
        return _standard(style, writer)
    if study.site == "A" and writer.draws.chance(habits.brief):
        return f"IMPRESSION: {_stop(_impression(said, devices, study, habits, writer))}"
    match style:
        case "terse":
            return _terse(said, devices, extras, study, habits, writer)
        case "templated":
            return _prose(said, devices, extras, study, habits, writer, full=False)
        case "narrative":
            return _prose(said, devices, extras, study, habits, writer, full=True)
        case "itemised":
            return _itemised(said, devices, extras, study, habits, writer)
        case "telegram":
            return _telegram(said, devices, extras, study, habits, writer)
        case "checklist":
            return _checklist(said, devices, extras, study, habits, writer)


def report(study: Study, seed: int) -> Report:
    """The report of a study and its labels. The same study and seed give the same report."""
    draws = report_draws(study, seed)
    habits = HABITS[study.site]
    style, pet = draws.pick(READERS[study.site])
    writer = _Writer(draws, pet)
    said = _said(study, habits, draws)
    devices = _said_devices(study, habits, draws)
    extras = _incidental(study, habits, seed, draws)
    text = _written(style, said, devices, extras, study, habits, writer)
    labels = writer.labels
    if not any(value != 0 for label, value in labels.items() if label != "Support Devices"):
        labels["No Finding"] = 1.0
    return Report(text, {label: labels[label] for label in LABELS if label in labels})


# ----------------------------------------------------------------------------------------- captions of the lower rungs


def caption(study: Study, level: CaptionLevel, draws: Draws) -> str:
    """A text of the kind that a less specialised model is trained on.

    `general`: what a layman sees. `biomedical`: a textbook legend naming one or two salient findings. `clinical`: a
    short impression without side, zone or degree.
    """
    if level == "general":
        return _general(study, draws)
    if level == "biomedical":
        return _biomedical(study, draws)
    said = _said(study, HABITS[study.site], draws)
    writer = _Writer(draws, draws.pick((0, 1, 2)))
    lines = [writer.word(_TERMS[item.kind].nouns) for item in said]
    lines += [writer.word(_DEVICE_NAMES[device.kind]) for device in _said_devices(study, HABITS[study.site], draws)]
    denial = _deny(writer, {item.kind for item in said}, ("pleural effusion", "pneumothorax"))
    if denial and draws.chance(0.3):
        lines.append(denial)
    return _stop(lines or [draws.pick(("no acute cardiopulmonary process", "normal chest", "no acute disease"))])


_LAY_NAMES: dict[str, str] = {
    "endotracheal tube": "a tube",
    "enteric tube": "a tube",
    "chest tube": "a tube",
    "central line": "a line",
    "picc": "a line",
    "port": "a port",
    "pacemaker": "a pacemaker",
    "sternal wires": "wires",
    "valve prosthesis": "a heart valve",
}


def _general(study: Study, draws: Draws) -> str:
    person = {"F": "a woman", "M": "a man"}[study.anatomy.sex]
    whole = draws.pick(("a chest x-ray of {}", "an x-ray image of {}", "a black and white image of the chest of {}"))
    seen = [_LAY_NAMES[device.kind] for device in study.devices if draws.chance(0.5)]
    seen += ["a large heart" for item in study.findings if item.kind == "cardiomegaly" and draws.chance(item.severity)]
    return f"{whole.format(person)} with {_listed(seen[:2], 'and')}" if seen else whole.format(person)


def _biomedical(study: Study, draws: Draws) -> str:
    gravest = sorted(study.findings, key=lambda finding: -finding.severity)[:2]
    salient: list[Finding | Device] = [*gravest, *study.devices[:2]]
    names = [_legend(item, draws) for item in salient if draws.chance(0.8)][: draws.pick((1, 2, 3))]
    there = {finding.kind for finding in study.findings}
    absent = [kind for kind in ("pleural effusion", "pneumothorax", "consolidation") if kind not in there]
    without = f" without {draws.pick(absent)}" if absent and draws.chance(0.3) else ""
    if not names:
        if salient:
            return f"Chest radiograph{without}."
        return draws.pick(
            ("Normal chest radiograph.", "Clear lungs and a normal heart.", "Normal radiograph of the chest.")
        )
    shown = draws.pick(
        ("Chest radiograph showing {}", "Radiograph of the chest demonstrates {}", "{} on a chest radiograph")
    )
    return f"{shown.format(_listed(names, 'and'))}{without}."


def _legend(item: Finding | Device, draws: Draws) -> str:
    return draws.pick(_TERMS[item.kind].nouns if isinstance(item, Finding) else _DEVICE_NAMES[item.kind])
