"""Finetunes the heads of an entry by a named mechanism and writes down everything that was done.

Only training pairs are touched: the split `finetune` of the entry, or all of the cohort NAME-finetune. A record says
what is guaranteed for them, under which unit and neighbouring relation, by which accountant; it says nothing about how
well images of others can be linked, which is measured.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.heads import Heads, unit
from linkage_core.mitigation import accounting, controls, oneshot
from linkage_core.mitigation.engine import ClosedForm, Pairs, Recipe, Towers, train
from linkage_core.mitigation.mechanisms import (
    ENGINES,
    LABEL,
    LIKE,
    MECHANISMS,
    OUTPUT_NOISE,
    PAPER,
    PUBLIC,
    Mechanism,
    known,
)
from linkage_core.mitigation.noise import Seeded, Source, System
from linkage_core.mitigation.objectives import Label, Nothing, Objective, PublicNegatives, known_findings, targets
from linkage_core.mitigation.training import (
    Training,
    pairs_of,
    public_bank,
    public_entry,
    refuse_dominant,
    training_pairs,
)
from linkage_core.progress import Progress, silent
from linkage_core.store.entry import Entry
from linkage_core.store.files import versions
from linkage_core.tables import null
from linkage_core.validate import one_of

SCOPE = (
    "the training pairs of these heads, and only what the heads tell about them; not how well an image is linked, and "
    "not what the frozen encoder saw in its own training"
)


@dataclass(frozen=True)
class Options:
    """How to finetune; everything here is public. None takes the mechanism's default.

    delta: see accounting.delta_for. like: what a noise-only or nonprivate control follows. public: cohort of the same
    model whose pairs are public (bank of public-negatives, labels of public-labels). seed: of a reproducible run, which
    is not private. width: dimensions kept by truncate and moment-oneshot. output_noise: deviation in each coordinate.
    """

    epsilon: float = math.inf
    delta: float | None = None
    allow_large_delta: bool = False
    unit: str = "patient"
    findings: tuple[str, ...] = LABELS
    engine: str = ENGINES[0]
    like: str | None = None
    public: str | None = None
    seed: int | None = None
    q: float | None = None
    steps: int | None = None
    clip: float | None = None
    rate: float | None = None
    width: int | None = None
    output_noise: float = OUTPUT_NOISE


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

    Raises InputError for an unknown mechanism, unit, engine or finding, epsilon not above 0, a delta of 1/n or more
    that is not allowed by name, training pairs without labels or with one patient in half of them, and a public cohort
    that is needed and absent.
    """
    options = options or Options()
    row = known(mechanism)
    _checked(row, options)
    followed = options.like if mechanism in ("noise-only", "nonprivate") else None
    acts = followed or mechanism
    source: Source = System() if options.seed is None else Seeded(options.seed)
    name = name or default_name(mechanism, options)
    record: dict[str, Any] = {
        "mechanism": mechanism,
        "says": row.says,
        "like": followed,
        "head": name,
        "engine": None,
        "epsilon": None,
        "delta": None,
        "unit": options.unit,
        "relation": accounting.RELATION,
        **dict.fromkeys(("sigma", "q", "steps", "clip", "accountant")),
        "reproducible": options.seed is not None,
        "seed": options.seed,
        "private": False,
        "sensitivity": MECHANISMS[acts].sensitivity,
        "findings": list(options.findings) if MECHANISMS[acts].labels else None,
        "model": entry.model,
        "weights_sha256": entry.manifest["model"].get("weights_sha256"),
        "trained_on": None,
        "versions": versions(),
    }
    if acts in _DATALESS:
        heads, more = _DATALESS[acts](entry, options, source)
        return heads, record | more | {"claim": f"none: a control. {row.says.capitalize()}."}
    if mechanism == "nonprivate":
        options = replace(options, epsilon=math.inf)
    signal = mechanism != "noise-only"
    made = None
    if acts in oneshot.CLIP:
        made = stored_sums(entry, acts, options) if training is None else None
        made = made or prepare(acts, training or training_pairs(entry), options.unit, options.findings)
        n_units, trained_on = made.n_units, made.about["trained_on"]
    else:
        training = training or training_pairs(entry)
        refuse_dominant(training)
        n_units, trained_on = len(np.unique(training.units(options.unit))), training.said()
    delta, note = accounting.delta_for(n_units, _delta(acts, options), options.allow_large_delta or acts == PAPER)
    if made:
        heads = (made if signal else made.without_signal()).heads(options.epsilon, delta, source, options.width)
        run, more = made.run(options.epsilon, delta), {"engine": ENGINES[0]}
    elif training:
        heads, run, more = _TRAINED[acts](_Work(entry, training, options, delta, source, progress, signal))
    record |= run.record() | {"delta_note": note, "trained_on": trained_on, **more}
    return heads, record | _claims(row, run, options)


@dataclass(frozen=True)
class _Work:
    entry: Entry
    training: Training
    options: Options
    delta: float
    source: Source
    progress: Progress
    signal: bool

    def pairs(self, images: np.ndarray, texts: np.ndarray, constant: float) -> Pairs:
        return Pairs.of(images, texts, self.training.units(self.options.unit), constant)


def _label_dpsgd(work: _Work) -> tuple[Heads, accounting.Run, dict[str, Any]]:
    """Unit rows and no bias: a cosine sees neither the scale of the features nor of the logits."""
    t = work.training
    pairs = work.pairs(oneshot.unit_rows(t.images), oneshot.unit_rows(t.texts), 0.0)
    objective = Label(targets(t.labels, work.options.findings)[pairs.order])
    k = len(work.options.findings)
    start = Towers(np.zeros((k, pairs.images.shape[1] + 1)), np.zeros((k, pairs.texts.shape[1] + 1)))
    return _descend(work, start, pairs, objective, clip=0.1, rate=50.0)


def _public_negatives(work: _Work) -> tuple[Heads, accounting.Run, dict[str, Any]]:
    """From the off-the-shelf heads; clip and rate are in units of their weights, which are public."""
    shelf, t = work.entry.heads(), work.training
    bank_images, bank_texts, said = public_bank(work.entry, work.options.public)
    objective = PublicNegatives(unit(shelf.image(bank_images)), unit(shelf.text(bank_texts)))
    start = Towers.of(shelf)
    scale = start.norm / math.sqrt(len(start.image))  # of one row of the weights
    return _descend(
        work, start, work.pairs(t.images, t.texts, 1.0), objective, clip=1.0 / scale, rate=0.005 * scale**2, more=said
    )


def _descend(
    work: _Work,
    start: Towers,
    pairs: Pairs,
    objective: Objective,
    *,
    clip: float,
    rate: float,
    more: dict[str, Any] | None = None,
) -> tuple[Heads, accounting.Run, dict[str, Any]]:
    options = work.options
    q = _given(options.q, min(1.0, max(0.05, 200 / pairs.n_units)))
    steps = int(_given(options.steps, 200))
    clip, rate = _given(options.clip, clip), _given(options.rate, rate)
    multiplier = accounting.dpsgd_sigma(options.epsilon, work.delta, q, steps)
    recipe = Recipe(clip, q, steps, rate, multiplier, momentum=0.9, unit=options.unit)
    engine = ClosedForm()
    if options.engine == "opacus":
        from linkage_core.mitigation.opacus_engine import Opacus

        engine = Opacus()
    loss = objective if work.signal else Nothing()
    heads = train(start, pairs, loss, recipe, work.source, engine, work.progress).heads()
    run = accounting.Run(multiplier, q, steps, clip, options.unit, work.delta)
    kept = {key: value for key, value in asdict(recipe).items() if key in ("rate", "momentum", "average")}
    return heads, run, {"engine": engine.name, **kept, **(more or {})}


def _paper(work: _Work) -> tuple[Heads, accounting.Run, dict[str, Any]]:
    from linkage_core.mitigation import paper

    usual = paper.PaperRecipe()
    recipe = replace(usual, clip=_given(work.options.clip, usual.clip), rate=_given(work.options.rate, usual.rate))
    t = work.training
    pairs = Pairs.of(t.images, t.texts, t.units("pair"), 1.0)
    q, steps = recipe.sampling(len(pairs.unit))
    multiplier = accounting.dpsgd_sigma(work.options.epsilon, work.delta, q, steps)
    trained = paper.train(
        Towers.of(work.entry.heads()), pairs, multiplier, recipe, work.source, work.progress, signal=work.signal
    )
    run = accounting.Run(multiplier, q, steps, recipe.clip, "pair", work.delta)
    return trained.heads(), run, {"engine": "opacus", "recipe": asdict(recipe)}


_TRAINED: dict[str, Callable[[_Work], tuple[Heads, accounting.Run, dict[str, Any]]]] = {
    LABEL: _label_dpsgd,
    PUBLIC: _public_negatives,
    PAPER: _paper,
}


def _public_labels(entry: Entry, options: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    other = public_entry(entry, options.public)
    pairs = pairs_of(other, other.default_split)
    heads = controls.public_labels(pairs.images, pairs.texts, pairs.labels, options.findings)
    return heads, {"trained_on": pairs.said()}


def _concept_span(entry: Entry, options: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    from linkage_core.encoders.registry import load_encoder

    sentences = controls.prompts(options.findings)
    encoder = load_encoder(entry.manifest["model"]["name"], store_root=entry.store.root)
    return controls.concept_span(entry.heads(), encoder.text_features(sentences)), {"prompts": sentences}


def _truncate(entry: Entry, options: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    width = options.width or len(options.findings)
    return controls.truncate(entry.heads(), width), {"width": width}


_DATALESS: dict[str, Callable[[Entry, Options, Source], tuple[Heads, dict[str, Any]]]] = {
    "random-heads": lambda entry, options, source: (controls.random_heads(entry.heads(), source), {}),
    "rotation": lambda entry, options, source: (controls.rotation(entry.heads(), source), {}),
    "truncate": _truncate,
    "output-noise": lambda entry, options, source: (
        entry.heads(),
        {"output_noise": options.output_noise, "output_seed": new_seed() if options.seed is None else options.seed},
    ),
    "concept-span": _concept_span,
    "public-labels": _public_labels,
}


def prepare(
    mechanism: str, training: Training, unit: str = "patient", findings: Sequence[str] = LABELS
) -> oneshot.Prepared:
    """Clipped sums of the training pairs: heads at any epsilon follow in milliseconds."""
    refuse_dominant(training)
    return oneshot.prepare(
        mechanism,
        training.images,
        training.texts,
        training.units(unit),
        training.labels,
        known_findings(findings) if mechanism == oneshot.LABEL else (),
        unit=unit,
        about={
            "trained_on": training.said(),
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
    wanted = options.findings if mechanism == oneshot.LABEL else ()
    return made if made.findings == wanted else None


def sums_file(mechanism: str, unit: str) -> str:
    """Name of the file in an entry."""
    return f"sums-{mechanism}-{unit}.safetensors"


def default_name(mechanism: str, options: Options) -> str:
    """label-dpsgd-eps0.34; noise-only-label-dpsgd-eps0.34; rotation."""
    parts = [mechanism]
    if options.like and mechanism in ("noise-only", "nonprivate"):
        parts.append(options.like)
    if mechanism == "noise-only" or MECHANISMS[mechanism].kind != "control":
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


def new_seed() -> int:
    """For a reproducible run that names none."""
    return secrets.randbits(32)


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _delta(acts: str, options: Options) -> float | None:
    if acts == PAPER and options.delta is None:
        from linkage_core.mitigation import paper

        return paper.DELTA
    return options.delta


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
    known_findings(options.findings)
    if row.name in ("noise-only", "nonprivate") and options.like not in LIKE:
        raise InputError(f"{row.name} follows {options.like!r}.", f"Name what it follows (--like): {', '.join(LIKE)}.")


def _claims(row: Mechanism, run: accounting.Run, options: Options) -> dict[str, Any]:
    """What may be said: `private` and `claim`; epsilon is null where none is claimed."""
    if row.kind == "reported":
        from linkage_core.mitigation.paper import CLAIM

        return {"epsilon": None, "reported_epsilon": run.record()["epsilon"], "claim": CLAIM}
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
        f"whoever tries to tell whether one {each} used is {words}"
    )
    return {"private": True, "claim": claim, "scope": SCOPE}
