"""Finetunes the heads of an entry by a named mechanism and writes down everything that was done.

Only training pairs are touched: the split `finetune` of the entry, or all of the cohort NAME-finetune. A record says
what is guaranteed for them, under which unit and neighbouring relation, by which accountant; it says nothing about how
well images of others can be linked, which is measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.cohort import labels_way
from linkage_core.errors import InputError
from linkage_core.heads import Heads
from linkage_core.mitigation import accounting, oneshot
from linkage_core.mitigation.dataless import new_seed
from linkage_core.mitigation.mechanisms import Mechanism, followed, known
from linkage_core.mitigation.noise import Seeded, Source, System
from linkage_core.mitigation.objectives import known_findings
from linkage_core.mitigation.training import Training, cautions, said_of, training_pairs
from linkage_core.mitigation.work import ENGINES, Options, Work
from linkage_core.progress import Progress, silent
from linkage_core.store.entry import Entry
from linkage_core.store.files import versions
from linkage_core.tables import null
from linkage_core.validate import one_of

__all__ = [
    "Options",
    "beside",
    "default_name",
    "finetune",
    "keep_sums",
    "new_seed",
    "prepare",
    "stored_sums",
    "sums_file",
]

SCOPE = (
    "the training pairs of these heads, and only what the heads tell about them; not how well an image is linked, and "
    "not what the frozen encoder saw in its own training"
)


def finetune(
    entry: Entry,
    mechanism: str,
    options: Options | None = None,
    *,
    name: str = "",
    training: Training | None = None,
    progress: Progress = silent,
) -> tuple[Heads, dict[str, Any]]:
    """Heads by a mechanism of MECHANISMS, and their record; nothing is written (see Entry.add_head).

    The record is what the site knows. Part of it does not travel with the heads (store.entry.parted): the exact table
    and its size, and `cautions`, what training.cautions says of the pairs. Neither they nor any other finding in the
    pairs stops a training.

    Raises InputError for an unknown mechanism, unit, engine or finding, epsilon not above 0, a delta of 1/n or more
    that is not allowed by name (n public), training pairs without any label, and a public cohort that is needed and
    absent.
    """
    options = options or Options()
    row = known(mechanism)
    _checked(row, options)
    like = options.like if row.keeps else None
    acts = known(like) if like else row
    source: Source = System() if options.seed is None else Seeded(options.seed)
    name = name or default_name(mechanism, options)
    record: dict[str, Any] = {
        "mechanism": mechanism,
        "says": row.says,
        "like": like,
        "head": name,
        "engine": None,
        "epsilon": None,
        "delta": None,
        "unit": options.unit,
        "relation": accounting.RELATION,
        **dict.fromkeys(("sigma", "q", "steps", "clip", "accountant")),
        "public_size": None,
        "reproducible": options.seed is not None,
        "seed": options.seed,
        "private": False,
        "sensitivity": acts.sensitivity,
        "findings": list(options.findings) if acts.labels else None,
        "model": entry.model,
        "weights_sha256": entry.manifest["model"].get("weights_sha256"),
        "trained_on": None,
        "versions": versions(),
    }
    if acts.dataless:
        heads, more = acts.dataless(entry, options, source)
        return heads, record | more | {"claim": f"none: a control. {row.says.capitalize()}."}
    if row.keeps == "signal":
        options = replace(options, epsilon=math.inf)
    signal = row.keeps != "noise"
    made = None
    if acts.one_shot:
        made = stored_sums(entry, acts.name, options) if training is None else None
        made = made or prepare(
            acts.name, training or training_pairs(entry), options.unit, options.findings, options.public_size
        )
        made = made if options.public_size is None else replace(made, n_units=options.public_size)
        n_units, trained_on, found = made.n_units, made.about["trained_on"], made.about.get("cautions", [])
        labels = made.about.get("labels", labels_way(entry.labels_note()))
    else:
        training = training or training_pairs(entry)
        n_units, trained_on = training.public_size(options.unit, options.public_size), training.said()
        found = cautions(training, options.findings if acts.labels else ())
        labels = labels_way(training.source.labels_note())
    delta, note = accounting.delta_for(
        n_units,
        acts.delta if options.delta is None else options.delta,
        options.allow_large_delta or acts.kind == "reported",
    )
    if made:
        heads = (made if signal else made.without_signal()).heads(options.epsilon, delta, source, options.width)
        run, more = made.run(options.epsilon, delta), {"engine": ENGINES[0]}
    elif acts.trained and training:
        heads, run, more = acts.trained(Work(entry, training, options, delta, n_units, source, progress, signal))
    record |= run.record() | {"delta_note": note, "public_size": n_units, "trained_on": trained_on, **more}
    if acts.labels:
        record["labels"] = labels
    return heads, record | said_of(found) | _claims(row, run, options, n_units)


def prepare(
    mechanism: str,
    training: Training,
    unit: str = "patient",
    findings: Sequence[str] = LABELS,
    public_size: int | None = None,
) -> oneshot.Prepared:
    """Clipped sums of the training pairs: heads at any epsilon follow in milliseconds."""
    listed = known_findings(findings) if known(mechanism).labels else ()
    return oneshot.prepare(
        mechanism,
        training.images,
        training.texts,
        training.units(unit),
        training.labels,
        listed,
        unit=unit,
        n_units=training.public_size(unit, public_size),
        about={
            "trained_on": training.said(),
            **({"labels": labels_way(training.source.labels_note())} if listed else {}),
            **said_of(cautions(training, listed)),
            "model": training.source.model,
            "weights_sha256": training.source.manifest["model"].get("weights_sha256"),
        },
    )


def keep_sums(entry: Entry, made: oneshot.Prepared) -> Entry:
    """Write clipped sums into an entry, for heads at any epsilon where the pairs themselves do not ship.

    They are clean: for the synthetic phantom, and for one's own machine. Raises InputError for another model's sums.
    """
    if made.about["weights_sha256"] != entry.manifest["model"].get("weights_sha256"):
        raise InputError(
            f"These sums were made with other weights than {entry.cohort}/{entry.model}.", "Prepare them anew."
        )
    return entry.add_file(sums_file(made.mechanism, made.unit), made.write)


def stored_sums(entry: Entry, mechanism: str, options: Options) -> oneshot.Prepared | None:
    """Clipped sums kept in the entry for these findings and this unit, or None."""
    relative = sums_file(mechanism, options.unit)
    if relative not in entry.manifest["files"]:
        return None
    made = oneshot.Prepared.read(entry.file(relative))
    wanted = options.findings if known(mechanism).labels else ()
    return made if made.findings == wanted else None


def sums_file(mechanism: str, unit: str) -> str:
    """Name of the file in an entry."""
    return f"sums-{mechanism}-{unit}.safetensors"


def default_name(mechanism: str, options: Options) -> str:
    """label-dpsgd-eps0.34; noise-only-label-dpsgd-eps0.34; rotation."""
    row, parts = known(mechanism), [mechanism]
    if options.like and row.keeps:
        parts.append(options.like)
    if row.epsilon != math.inf:
        parts.append(f"eps{options.epsilon:g}")
    if options.seed is not None:
        parts.append(f"seed{options.seed}")
    return "-".join(parts)


def beside(record: dict[str, Any]) -> dict[str, Any]:
    """Epsilons of a sampled run by all three accountants, {} for other runs. Loads torch, for Opacus."""
    if record["accountant"] != accounting.PLD or not record["sigma"]:
        return {}
    epsilons = asdict(accounting.Run.of_record(record).epsilons)
    return {"epsilons": {name: null(value) for name, value in epsilons.items()}}


def _checked(row: Mechanism, options: Options) -> None:
    if math.isnan(options.epsilon) or options.epsilon <= 0:
        raise InputError(f"epsilon is {options.epsilon}.", "It is a number above 0; inf means not private.")
    one_of("unit", options.unit, accounting.UNITS)
    one_of("engine", options.engine, ENGINES)
    if options.engine == "opacus" and options.unit != "pair":
        raise InputError("The engine opacus clips pairs, not patients.", "Take --unit pair, or the closed form.")
    if options.output_noise < 0 or not math.isfinite(options.output_noise):
        raise InputError(f"output_noise is {options.output_noise}.", "It is a deviation: zero or more.")
    for field, most in (("q", 1.0), ("steps", math.inf), ("clip", math.inf), ("rate", math.inf)):
        value = getattr(options, field)
        if value is not None and not (0 < value <= most and math.isfinite(value)):
            raise InputError(f"{field} is {value}.", "Give a number above 0" + (", at most 1." if most == 1 else "."))
    if options.public_size is not None and options.public_size < 1:
        raise InputError(f"public_size is {options.public_size}.", "Declare a number of units, 1 or more.")
    known_findings(options.findings)
    if row.keeps and options.like not in followed():
        names = ", ".join(followed())
        raise InputError(f"{row.name} follows {options.like!r}.", f"Name what it follows (--like): {names}.")


def _claims(row: Mechanism, run: accounting.Run, options: Options, n_units: int) -> dict[str, Any]:
    """What may be said: `private` and `claim`; epsilon is null where none is claimed. n_units: the public number."""
    if row.kind == "reported":
        return {"epsilon": None, "reported_epsilon": run.record()["epsilon"], "claim": row.claim}
    if row.kind == "control":
        nominal = run.record()["epsilon"]
        return {"epsilon": None, "noise_of_epsilon": nominal, "claim": f"none: a control. {row.says.capitalize()}."}
    if run.multiplier == 0:
        return {"claim": "none: no noise was added, so this is not private"}
    if options.seed is not None:
        return {"claim": "none: the seed of its noise is stored. A run with fresh noise would have this epsilon"}
    words = accounting.privacy_sentence(run.accuracy)
    each = "patient's pairs were" if run.unit == "patient" else "pair was"
    claim = (
        f"({run.epsilon:.4g}, {run.delta:.2g})-DP, unit {run.unit}, {run.relation}, by {run.accountant}: "
        f"whoever tries to tell whether one {each} used is {words}. That there are about {n_units:,} {run.unit}s is "
        "taken to be public: delta, sampling and steps follow from it"
    )
    return {"private": True, "claim": claim, "scope": SCOPE}
