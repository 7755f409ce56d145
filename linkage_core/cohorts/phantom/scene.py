"""What one phantom image shows: the contract between the population, which decides, and the renderer, which draws.

Everything is relative to the chest (0..1), so that one scene can be rendered at any size. "left" and "right" are the
patient's: in a frontal image the patient's right lies on the viewer's left.
"""

from dataclasses import dataclass
from typing import Literal

View = Literal["PA", "AP", "LATERAL"]
Side = Literal["left", "right", "bilateral", ""]
Zone = Literal["upper", "mid", "lower", ""]

FINDING_KINDS = (
    "cardiomegaly",
    "enlarged cardiomediastinum",
    "lung lesion",  # a nodule or mass; severity is its size
    "lung opacity",  # an ill-defined patch
    "edema",
    "consolidation",
    "pneumonia",  # a patch with air bronchograms
    "atelectasis",  # a linear band, or volume loss at high severity
    "pneumothorax",
    "pleural effusion",
    "pleural other",  # thickening or plaque along the lateral wall
    "fracture",  # of a rib
)

DEVICE_KINDS = (
    "endotracheal tube",
    "enteric tube",
    "central line",
    "picc",
    "port",
    "pacemaker",
    "chest tube",
    "sternal wires",
    "valve prosthesis",
)


@dataclass(frozen=True)
class Anatomy:
    """A patient's build; shared by all studies of the patient."""

    sex: Literal["F", "M"]
    age: int  # years
    habitus: float  # -1 slender .. 1 large (soft tissue, chest width)
    chest_shape: float  # -1 short and wide .. 1 long and narrow
    heart_size: float  # cardiothoracic ratio without disease, about 0.40 .. 0.50
    aorta: float  # 0 straight .. 1 tortuous and calcified
    scoliosis: float  # -1 .. 1, curve of the spine
    rib_slope: float  # 0 horizontal .. 1 steep
    diaphragm: float  # -1 low .. 1 high
    hila: float  # 0 faint .. 1 prominent vessels


@dataclass(frozen=True)
class Finding:
    """One abnormality. `severity` is 0..1; `x`, `y` are offsets (-1..1) in its side and zone; `seed` fixes texture."""

    kind: str
    side: Side = ""
    zone: Zone = ""
    severity: float = 0.5
    x: float = 0.0
    y: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Device:
    """A line, tube or implant. `tip` is 0..1 along its usual course (0 too high .. 1 too deep)."""

    kind: str
    side: Side = ""
    tip: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Scene:
    """Everything the renderer needs for one image."""

    anatomy: Anatomy
    findings: tuple[Finding, ...]
    devices: tuple[Device, ...]
    view: View
    rotation: float  # degrees, -6 .. 6
    exposure: float  # -1 under .. 1 over
    inspiration: float  # 0 poor .. 1 full
    site: Literal["A", "B"]  # two vendors: other grey scale, grain and collimation
    noise_seed: int
