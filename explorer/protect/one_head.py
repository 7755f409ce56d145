"""All that Mitigation says of one head at one setting, taken from the tables of the lab at once and then only drawn.

Nothing here looks at the session or draws: what no table holds is asked of functions that the page hands in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from explorer.drawing import words
from explorer.drawing.charts import Row
from explorer.frame.controls import epsilon_words
from explorer.frame.kept import Lab
from explorer.protect import cards, curve, details, jobs
from explorer.protect.uses import Use, use_of
from linkage_core import sentences, shipped
from linkage_core.cohorts.base import HELDOUT, LABELS
from linkage_core.cohorts.labels.cohort import LABELS_WAY
from linkage_core.errors import InputError, LinkageError
from linkage_core.lab import grid
from linkage_core.lab import setting as settings
from linkage_core.lab.measured import WORST
from linkage_core.lab.setting import Setting
from linkage_core.mitigation import accounting
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.seen import trained_words, why_untested

COSINE_HOLDS = "embeddings-and-heads"
"""What is released where cosine is measured: it uses nothing else, so one measurement serves every release."""

PICTURED = "Made for this picture with noise that repeats"
"""What is said of a head that is not stored (kept.live)."""


@dataclass(frozen=True)
class OnDemand:
    """What is computed where no table holds it. Each raises LinkageError where it cannot be.

    head_curve: of a stored head, and live_curve: of a one-shot head that is not stored, with its signal or with its
    noise alone; linkage by cosine at every step of N. run: what was done to the training units of a one-shot head.
    """

    head_curve: Callable[[str], pd.DataFrame]
    live_curve: Callable[[Setting, bool], pd.DataFrame]
    run: Callable[[Setting], accounting.Run]


@dataclass(frozen=True)
class Control:
    """The noise alone: its stored head where there is one, linkage by cosine under it, and what it is called."""

    head: str | None
    cosine: pd.DataFrame | None
    name: str


@dataclass(frozen=True)
class AtSetting:
    """One head at one setting, before and after.

    before, after: the worst attacker, and cosine_before, cosine: cosine alone; rows by N, empty or None where not
    measured. run: what was done to the training units; None where nothing private was, an error where it cannot be
    said. problem: why something could not be computed, the last one. lines, names: those that are drawn against N, and
    what each is called. bars, bar_names: the attackers one by one at this N. held: another setting, to compare with.
    """

    entry: Entry
    tables: Lab
    chosen: Setting
    release: str
    pool_size: int
    head: str | None
    no_labels: bool
    n_own: int
    before: pd.DataFrame
    after: pd.DataFrame
    cosine_before: pd.DataFrame | None
    cosine: pd.DataFrame | None
    control: Control
    problem: LinkageError | None
    run: accounting.Run | LinkageError | None
    guarantee: cards.Guarantee
    lines: dict[str, pd.DataFrame]
    names: dict[str, str]
    uses: tuple[Use, ...]
    bars: tuple[Row, ...]
    bar_names: tuple[str, ...]
    held: AtSetting | None = None

    @property
    def ends(self) -> dict[str, str]:
        """What stands at the ends of the lines, by name of the line, where a setting is held."""
        if self.held is None:
            return {}
        own = "worst" if "worst" in self.lines else "cosine"
        return {"before": "before", "held": f"A: {self.held.short}", own: f"B: {self.short}"}

    @property
    def short(self) -> str:
        """What it is called at the end of a line: by its epsilon alone."""
        return f"ε = {epsilon_words(self.chosen.epsilon)}"

    @property
    def out_of(self) -> int:
        """How many images a rate is said of."""
        return sentences.denominator(self.pool_size)

    @property
    def title(self) -> str:
        return f"{words.mechanisms()[self.chosen.mechanism]}, ε = {epsilon_words(self.chosen.epsilon)}"

    @property
    def before_row(self) -> pd.Series | None:
        return words.at(self.before, self.pool_size)

    @property
    def after_row(self) -> pd.Series | None:
        return words.at(self.after, self.pool_size)

    @property
    def cosine_before_row(self) -> pd.Series | None:
        return words.at(self.cosine_before, self.pool_size)

    @property
    def cosine_row(self) -> pd.Series | None:
        return words.at(self.cosine, self.pool_size)

    @property
    def noise_row(self) -> pd.Series | None:
        return words.at(self.control.cosine, self.pool_size)

    @property
    def worst_pair(self) -> tuple[pd.Series, pd.Series] | None:
        """The worst attacker under the head and under its noise alone, where both were measured."""
        rows = words.line(self.tables.linkage, self.control.head or "", self.release, WORST, self.entry.cohort)
        after, silenced = self.after_row, words.at(rows, self.pool_size)
        return None if after is None or silenced is None else (after, silenced)

    @property
    def whose(self) -> str:
        """On whom card 2 is measured, as its head goes on."""
        if self.entry.tested_split == HELDOUT:
            return cards.HELD_OUT
        return "on all patients" if self.entry.tested_split == "all" else f"on patients of {self.entry.tested_split}"

    @property
    def nearest(self) -> tuple[tuple[float, float], ...]:
        """(epsilon, recall of the worst attacker) of the measured settings that differ from this one by epsilon alone:
        the next one below and the next one above."""
        there = settings.epsilons_of(self.tables.heads, self.chosen.mechanism)
        below = [epsilon for epsilon in reversed(there) if epsilon < self.chosen.epsilon]
        above = [epsilon for epsilon in there if epsilon > self.chosen.epsilon]
        sides = (((each, self._worst_at(each)) for each in side) for side in (below, above))
        found = (next(((each, recall) for each, recall in side if recall is not None), None) for side in sides)
        return tuple(one for one in found if one is not None)

    def _worst_at(self, epsilon: float) -> float | None:
        """Recall of the worst attacker under the stored head that differs from this setting by its epsilon alone."""
        head = settings.stored(self.tables.heads, replace(self.chosen, epsilon=epsilon))
        if head is None:
            return None
        rows = words.line(self.tables.linkage, head, self.release, WORST, self.entry.cohort)
        row = words.at(rows, self.pool_size)
        return None if row is None else float(row["recall"])

    @property
    def unmeasured(self) -> str:
        """What is said of the worst attacker where that one is not known here."""
        if len(self.after) and len(self.before):
            return f"not measured at N = {self.pool_size:,}"
        if self.nearest:
            return f"not measured at ε = {epsilon_words(self.chosen.epsilon)}"
        return "not measured at this setting" if len(self.before) else "not measured yet"

    @property
    def nearest_words(self) -> str:
        """The nearest measured settings with their worst attacker; "" where there is none."""
        said = [
            f"ε = {epsilon_words(epsilon)}: {sentences.figure(recall, self.out_of)}" for epsilon, recall in self.nearest
        ]
        return f"Nearest measured, of {self.out_of:,}: {', '.join(said)}" if said else ""

    @property
    def n_images(self) -> int:
        """The most images that carry any line."""
        return max((int(rows["n_queries"].max()) for rows in self.lines.values()), default=0)

    @property
    def why_no_control(self) -> str:
        """Why there is nothing to compare with noise alone."""
        if self.cosine_row is None:
            return "There is no head at this setting yet."
        return "No noise-only control is stored for this mechanism."


def at_setting(
    entry: Entry, tables: Lab, chosen: Setting, release: str, pool_size: int, on_demand: OnDemand
) -> AtSetting:
    """Everything that is known of one head at one setting.

    release: what the attacker holds, one of mitigation.RELEASES. Raw images pass no head, so after is as before.
    """
    linkage, cohort = tables.linkage, entry.cohort
    problems: list[LinkageError] = []

    def read(rows: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
        try:
            return rows()
        except LinkageError as error:
            problems.append(error)
            return None

    def cosine_of(head: str | None) -> pd.DataFrame | None:
        rows = words.line(linkage, head or "", COSINE_HOLDS, "cosine", cohort)
        if len(rows):
            return rows
        return read(lambda: on_demand.head_curve(head)) if head is not None else None

    head, no_labels = settings.stored(tables.heads, chosen), not entry.labelled
    before = words.line(linkage, OFF_THE_SHELF, release, WORST, cohort)
    after = before if release == "raw-images" else words.line(linkage, head or "", release, WORST, cohort)
    cosine_before, cosine = cosine_of(OFF_THE_SHELF), cosine_of(head)
    if cosine is None and chosen.one_shot and not (chosen.learns_findings and no_labels):
        cosine = read(lambda: on_demand.live_curve(chosen, True))
    control = noise_alone(tables, chosen, cosine_of, lambda silent: read(lambda: on_demand.live_curve(silent, False)))
    run = run_of(entry, tables, chosen, head, on_demand)
    lines, names = lines_of(before, after, cosine_before, cosine, control)
    n_own = int((entry.records()["split"] == "attacker").sum())
    bars = bars_of(linkage, cohort, head, release, pool_size)
    return AtSetting(
        entry=entry,
        tables=tables,
        chosen=chosen,
        release=release,
        pool_size=pool_size,
        head=head,
        no_labels=no_labels,
        n_own=n_own,
        before=before,
        after=after,
        cosine_before=cosine_before,
        cosine=cosine,
        control=control,
        problem=problems[-1] if problems else None,
        run=run,
        guarantee=guarantee_of(tables, chosen, head, run),
        lines=lines,
        names=names,
        uses=uses_of(tables, cohort, chosen, head, control.head, no_labels),
        bars=tuple(bars),
        bar_names=tuple(words.attacker_words(row, n_own) for row in bars),
    )


def beside(now: AtSetting, held: AtSetting) -> AtSetting:
    """`now` (B) with a setting that is held (A): of each the worst attacker's line, or cosine's where it has none.

    Noise alone, and cosine beside the worst, are left out: the lines that are compared stay readable.
    """
    lines = {name: rows for name, rows in now.lines.items() if name != "noise"}
    if "worst" in lines:
        lines.pop("cosine", None)
    same = now.chosen.mechanism == held.chosen.mechanism
    called = {"A": held.short if same else held.title, "B": now.short if same else now.title}
    names = {
        "before": now.names.get("before", ""),
        "worst": f"B: {called['B']}, worst attacker",
        "cosine": f"B: {called['B']}, cosine only",
    }
    which = next((name for name in ("worst", "cosine") if name in held.lines), None)
    if which is not None:
        lines["held"] = held.lines[which]
        names["held"] = f"A: {called['A']}, {'worst attacker' if which == 'worst' else 'cosine only'}"
    return replace(now, held=held, lines=lines, names={name: names[name] for name in curve.LINES if name in lines})


def noise_alone(
    tables: Lab,
    chosen: Setting,
    cosine_of: Callable[[str | None], pd.DataFrame | None],
    at_once: Callable[[Setting], pd.DataFrame | None],
) -> Control:
    """The noise of a mechanism without its signal: stored, or for a one-shot head made at once.

    Made at few epsilons: without signal a cosine hardly sees how much noise there is. For a one-shot head a stored one
    of other findings does not count, as one of the same can be made.
    """
    stored = settings.noise_only(tables.heads, chosen)
    if stored is not None and chosen.one_shot and not stored[2]:
        stored = None
    head, epsilon, same_findings = stored or (None, chosen.epsilon, True)
    cosine = cosine_of(head)
    if cosine is None and chosen.one_shot:
        epsilon = min(grid.MAIN, key=lambda near: settings.ratio(near, chosen.epsilon))
        cosine = at_once(replace(chosen, epsilon=epsilon))
    name = "noise only"
    if not same_findings:
        name = "noise only, other findings"
    elif not math.isclose(epsilon, chosen.epsilon, rel_tol=1e-3):
        name = f"noise only, ε = {epsilon:g}"
    return Control(head, cosine, name)


def lines_of(
    before: pd.DataFrame,
    after: pd.DataFrame,
    cosine_before: pd.DataFrame | None,
    cosine: pd.DataFrame | None,
    control: Control,
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """What is drawn against N, and what it is called, each by its name in mitigation.LINES; what has no rows is not.

    Where the worst attacker was not measured before, cosine stands there and is named so.
    """
    rows = {
        "before": before if len(before) else cosine_before,
        "worst": after,
        "cosine": cosine,
        "noise": control.cosine,
    }
    names = {
        "before": "before" if len(before) else "before, cosine only",
        "worst": "after, worst attacker",
        "cosine": "after, cosine only",
        "noise": control.name,
    }
    lines = {name: line for name, line in rows.items() if line is not None and len(line)}
    return lines, {name: names[name] for name in curve.LINES if name in lines}


def run_of(
    entry: Entry, tables: Lab, chosen: Setting, head: str | None, on_demand: OnDemand
) -> accounting.Run | LinkageError | None:
    """What was done to the training units, where anything private was; why it cannot be said, where it cannot."""
    try:
        if head is not None:
            private = not math.isnan(_row_of(tables.heads, head)["accuracy"])
            return accounting.Run.of_record(entry.head_record(head)) if private else None
        return on_demand.run(chosen) if chosen.one_shot and not math.isinf(chosen.epsilon) else None
    except LinkageError as error:
        return error


def _row_of(heads: pd.DataFrame, head: str) -> pd.Series:
    return heads[heads["head"] == head].iloc[0]


def guarantee_of(
    tables: Lab, chosen: Setting, head: str | None, run: accounting.Run | LinkageError | None
) -> cards.Guarantee:
    """Card 1 in figures: of the stored head, or of the one-shot head that was made for the page."""
    if head is not None:
        row = _row_of(tables.heads, head)
        if math.isnan(row["accuracy"]):
            return cards.Guarantee(None, cards.why_none(chosen, str(row["claim"])))
        facts = cards.guarantee_facts(row["epsilon"], row["delta"], row["unit"])
        return cards.Guarantee(float(row["accuracy"]), "", facts, bool(row["reproducible"]))
    if chosen.as_reported or math.isinf(chosen.epsilon):
        return cards.Guarantee(None, cards.why_none(chosen))
    if isinstance(run, LinkageError):
        return cards.Guarantee(None, f"{run.what} {run.remedy}")
    if run is None:
        return cards.Guarantee(None, "No head has been trained at this setting yet.")
    facts = cards.guarantee_facts(chosen.epsilon, run.delta, run.unit)
    return cards.Guarantee(run.accuracy, "", facts, illustration=True, noise=PICTURED)


def uses_of(
    tables: Lab, cohort: str, chosen: Setting, head: str | None, noise_head: str | None, no_labels: bool
) -> tuple[Use, ...]:
    """The three rows of usefulness: declared findings, zero-shot, undeclared findings."""
    under = words.measures(tables.utility, head or "", cohort)
    by_noise = words.measures(tables.utility, noise_head or "", cohort)
    not_yet = "no labels in this cohort" if no_labels else "not measured at this setting"
    listed = "Declared findings" if chosen.learns_findings else "All findings"
    undeclared, name, why = under.get("undeclared"), "Undeclared", not_yet
    if undeclared is None and chosen.learns_findings and chosen.findings == LABELS:
        twin = settings.fewer(tables.heads, chosen)
        why = "all 14 are declared here"
        if twin is not None:
            undeclared = words.measures(tables.utility, twin[0], cohort).get("undeclared")
            name = f"Undeclared, if {twin[1]} are" if undeclared is not None else name
    elif not chosen.learns_findings:
        why = "this mechanism declares none"
    if head and (tables.utility["head"] == head).any():
        not_yet = "too few patients with each"
    no_zero_shot = "the text tower is not here" if under else not_yet
    return (
        use_of(listed, under.get("declared"), by_noise.get("declared"), not_yet),
        use_of("Zero-shot", under.get("zero-shot"), by_noise.get("zero-shot"), no_zero_shot),
        use_of(name, undeclared, by_noise.get("undeclared"), why),
    )


def bars_of(linkage: pd.DataFrame, cohort: str, head: str | None, release: str, pool_size: int) -> Sequence[Row]:
    """The attackers at one N as rows: all who hold no more than the release, and whoever has the images.

    Where the raw images are released, what somebody could do with less is shown all the same.
    """
    measured = linkage[
        (linkage["cohort"] == cohort)
        & (linkage["pool_size"] == pool_size)
        & (linkage["m"] == "all")
        & (linkage["attacker"] != WORST)
    ]
    holds = COSINE_HOLDS if release == "raw-images" else release
    own = measured[(measured["head"] == head) & (measured["release"] == holds)]
    raw = measured[(measured["head"] == OFF_THE_SHELF) & (measured["release"] == "raw-images")]
    order = {name: i for i, name in enumerate(words.attackers())}
    return pd.concat([own.sort_values("attacker", key=lambda names: names.map(order)), raw]).to_dict("records")


def delta_note(at: AtSetting) -> str:
    """What delta follows from, or why it cannot be said."""
    try:
        if at.head is not None:
            return str(at.entry.head_record(at.head).get("delta_note") or "No delta: nothing is claimed.")
        if at.chosen.one_shot:
            return accounting.delta_for(settings.sums(at.entry, at.chosen).n_units, at.chosen.delta)[1]
    except LinkageError as error:
        return str(error)
    return "Delta follows from the number of patients when the head is trained."


# -- what can be run -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What is missing at a setting and can be run: the words on the button, the run's title, the work.

    problem: why it cannot be run here; None where it can.
    """

    label: str
    title: str
    work: Callable[[Entry, Setting, jobs.Progress], object]
    problem: LinkageError | None


def next_step(at: AtSetting) -> Step | None:
    """Training where there is no head, then the attackers; None where all is there."""
    if at.release == "raw-images" and at.before_row is not None:
        return None
    not_written = shipped.why_not_written(at.entry.path)
    if at.head is None and not at.chosen.one_shot:
        problem: LinkageError | None = settings.why_no_pairs(at.entry)
        if at.chosen.learns_findings and at.no_labels:
            problem = InputError("No record has any of the 14 labels, so no label head can be trained.", "")
        return Step("Train at this epsilon", "training", settings.train, problem or not_written)
    if at.after_row is None or at.before_row is None:
        problem = why_untested(at.entry)
        if at.head is None and at.cosine is None:
            problem = at.problem or InputError("There is no head.", "")
        return Step("Run the attackers", "attackers", settings.measure, problem or not_written)
    return None


# -- as tables -------------------------------------------------------------------------------------------------------


def run_facts(at: AtSetting, epsilons: Callable[[accounting.Run], accounting.Epsilons]) -> list[tuple[str, str]]:
    """How the guarantee was computed, line by line. epsilons: of a run by other accountants. Raises LinkageError."""
    record = at.entry.head_record(at.head) if at.head is not None else {}
    run = private_run(at)
    rows = [("Mechanism", at.chosen.mechanism), ("Head", at.head or "not stored")]
    if record.get("claim"):
        rows.append(("Claim", str(record["claim"])))
    if run is not None:
        rows += [
            ("Noise multiplier σ", f"{run.multiplier:.4g} times the clip"),
            ("Clip", f"{run.clip:.4g}, one {run.unit}"),
            ("Sampling, steps", f"q = {run.q:.4g}, {run.steps:,}"),
            ("Neighbouring relation", run.relation),
            ("Accountant", f"{run.accountant}: ε = {run.epsilon:.4g} at δ = {run.delta:.2g}"),
        ]
        if run.accountant == accounting.PLD:
            beside = epsilons(run)
            rows.append(("Beside it", f"RDP {beside.rdp:.4g}, PRV {beside.prv:.4g}"))
    if record.get("scope"):
        rows.append(("Covers", str(record["scope"])))
    if trained := trained_words(record):
        rows.append(("Trained on", trained))
    if record.get("labels") in LABELS_WAY:
        rows.append(("Labels", LABELS_WAY[record["labels"]]))
    return rows + [("Note, at this site alone", str(one)) for one in record.get("cautions", ())]


def private_run(at: AtSetting) -> accounting.Run | None:
    """at.run; raises where it cannot be said."""
    if isinstance(at.run, LinkageError):
        raise at.run
    return at.run


def spread_words(at: AtSetting) -> str:
    """The worst attacker over the runs of this setting that differ by their noise alone; "" for fewer than two."""
    linkage, cohort = at.tables.linkage, at.entry.cohort
    runs = [
        words.at(words.line(linkage, head, at.release, WORST, cohort), at.pool_size)
        for head in settings.seeds_of(at.tables.heads, at.chosen)
    ]
    return details.spread_of_runs([row for row in runs if row is not None], at.out_of)


def attackers(at: AtSetting) -> pd.DataFrame:
    """Every measured attacker at this N, on every cohort."""
    return details.attacker_rows(at.tables.linkage, at.head or "", at.release, at.pool_size, at.out_of)


def filed(at: AtSetting) -> pd.DataFrame:
    """Every line of the picture as one table, with what was asked in front."""
    columns = ["line", "pool_size", "k", "recall", "recall_low", "recall_high", "chance", "n_queries"]
    parts = [rows.assign(line=at.names[name]) for name, rows in at.lines.items()]
    table = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    asked = {
        "synthetic": at.entry.synthetic,
        "cohort": at.entry.cohort,
        "model": at.entry.model,
        "mechanism": at.chosen.mechanism,
        "epsilon": at.chosen.epsilon,
        "release": at.release,
    }
    return pd.concat([pd.DataFrame(asked, index=table.index), table], axis=1)
