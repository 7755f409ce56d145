"""A setting that is held to compare with, as it stands in an address."""

from __future__ import annotations

from linkage_core.cohorts.base import LABELS
from linkage_core.lab.setting import Setting
from linkage_core.mitigation import accounting, mechanisms


def text_of(setting: Setting) -> str:
    """Mechanism and epsilon, and what differs from the default: findings by their places, unit, delta, seed.

    >>> text_of(Setting("label-dpsgd", 1.0)), text_of(Setting("label-dpsgd", 1.0, LABELS[:2], "pair", 1e-8, None))
    ('label-dpsgd~1', 'label-dpsgd~1~f0.1~upair~d1e-08~s')
    """
    parts = [setting.mechanism, f"{setting.epsilon:g}"]
    if setting.findings != LABELS:
        parts.append("f" + ".".join(str(LABELS.index(name)) for name in setting.findings))
    if setting.unit != accounting.UNITS[0]:
        parts.append(f"u{setting.unit}")
    if setting.delta is not None:
        parts.append(f"d{setting.delta:g}")
    if setting.seed != 0:
        parts.append(f"s{'' if setting.seed is None else setting.seed}")
    return "~".join(parts)


def setting_of(text: str) -> Setting | None:
    """The setting that such a text says; None where it says none.

    >>> setting_of("label-dpsgd~1~f0.1~upair~d1e-08~s") == Setting("label-dpsgd", 1.0, LABELS[:2], "pair", 1e-8, None)
    True
    >>> setting_of("magic~1"), setting_of("label-dpsgd~-1"), setting_of("label-dpsgd~1~f99"), setting_of("")
    (None, None, None, None)
    """
    mechanism, _, rest = text.partition("~")
    epsilon, *more = rest.split("~")
    if mechanism not in mechanisms.mitigations() or not text.isascii():
        return None
    said = {part[:1]: part[1:] for part in more}
    try:
        places = [int(place) for place in said["f"].split(".")] if "f" in said else range(len(LABELS))
        setting = Setting(
            mechanism=mechanism,
            epsilon=float(epsilon),
            findings=tuple(name for place, name in enumerate(LABELS) if place in set(places)),
            unit=said.get("u", accounting.UNITS[0]),
            delta=float(said["d"]) if "d" in said else None,
            seed=(int(said["s"]) if said["s"] else None) if "s" in said else 0,
        )
    except ValueError:
        return None
    inside = setting.epsilon >= 0.001 and 0 < (setting.delta or 0.5) < 1 and 0 <= (setting.seed or 0) < 10**9
    known = setting.unit in accounting.UNITS and set(said) <= set("fuds") and len(said) == len(more)
    return setting if inside and known and setting.findings and max(places) < len(LABELS) else None
