"""What the game says and keeps: whose turn it is, who was right, and what a score is worth. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from linkage_core.audit.game import Question, Round, at_least, ranks


@dataclass(frozen=True)
class Player:
    """A model that plays along: its name, and for each question the rank of every option, 1 for the likeliest."""

    name: str
    ranks: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, name: str, scores: Sequence[Sequence[float]]) -> Player:
        return cls(name, tuple(ranks(each) for each in scores))

    def right(self, questions: Sequence[Question]) -> list[bool]:
        """Of which of the first questions it puts the right report first."""
        return [of[question.answer] == 1 for of, question in zip(self.ranks, questions, strict=False)]


@dataclass
class Match:
    """One person's way through a round: what was chosen so far, and which question is on screen."""

    given: list[int]
    at: int = 0

    def choose(self, question: int, place: int, n_options: int) -> None:
        """Takes a choice for the question on screen; a second one for it, or one for another, counts for nothing."""
        if question == self.at == len(self.given) and 0 <= place < n_options:
            self.given.append(place)

    def go_on(self) -> None:
        """To the next question, once this one is answered."""
        self.at = min(self.at + 1, len(self.given))

    @property
    def chosen(self) -> int | None:
        """What was chosen for the question on screen."""
        return self.given[self.at] if self.at < len(self.given) else None

    def right(self, questions: Sequence[Question]) -> list[bool]:
        return [place == question.answer for place, question in zip(self.given, questions, strict=False)]


def score_line(you: int, models: Sequence[tuple[str, int]], n: int, n_options: int) -> str:
    """
    >>> score_line(6, [("Model", 8)], 10, 4)
    'You 6 of 10. Model 8 of 10. Guessing 2.5 of 10.'
    >>> score_line(1, [("Model", 1), ("Mitigated", 0)], 2, 4)
    'You 1 of 2. Model 1 of 2. Mitigated 0 of 2. Guessing 0.5 of 2.'
    """
    said = [("You", f"{you}"), *((name, f"{right}") for name, right in models)]
    said.append(("Guessing", f"{n / n_options:.1f}".removesuffix(".0")))
    return " ".join(f"{name} {count} of {n}." for name, count in said)


def luck(you: int, played: Round) -> str:
    """What a score says: how often somebody who only guesses gets as much.

    >>> luck(6, Round((Question("i", ("a", "b"), ("k", "l"), 0),) * 10, 4, 4))
    'Somebody who only guesses gets 6 or more in 2 of 100 rounds.'
    """
    n = len(played.questions)
    if you == 0:
        return f"Somebody who only guesses gets none in {_of_100(1 - at_least(1, n, played.n_options))} rounds."
    more = "or more " if you < n else ""
    return f"Somebody who only guesses gets {you} {more}in {_of_100(at_least(you, n, played.n_options))} rounds."


def _of_100(rate: float) -> str:
    count = round(100 * rate)
    return f"{count} of 100" if count else "fewer than 1 of 100"


def smaller(played: Round, n_images: int, same_findings: bool) -> str:
    """Why a round is smaller than it was asked for; "" where it is not."""
    said = []
    if played.n_options < played.wanted:
        of = " with the same findings" if same_findings else ""
        said.append(f"{played.wanted} different reports{of} cannot be filled here: {played.n_options} can")
    if len(played.questions) < n_images:
        said.append(f"only {len(played.questions)} patients have such an image: that is the round")
    return ". ".join(said) + "." if said else ""


def dots(you: Sequence[bool], models: Sequence[tuple[str, Sequence[bool]]], n: int, at: int) -> str:
    """HTML: one mark for each image of the round, the person's own above each model's."""
    rows = [("You", list(you)), *((name, list(right)[: len(you)]) for name, right in models)]
    body = []
    for name, right in rows:
        marks = "".join(
            f'<i class="{"pl-right" if right[k] else "pl-wrong"}">{"✓" if right[k] else "×"}</i>'
            if k < len(right)
            else f'<i class="{"pl-now" if k == at and name == "You" else ""}"></i>'
            for k in range(n)
        )
        said = f"{name}: {sum(right)} right of {len(right)} so far, of {n} images"
        body.append(f'<div role="img" aria-label="{escape(said)}"><span>{escape(name)}</span>{marks}</div>')
    return f'<div class="pl-dots">{"".join(body)}</div>'


def verdict(question: Question, chosen: int, models: Sequence[tuple[str, Sequence[int]]]) -> str:
    """What the answer was, and what each model made of it; plain text. models: name and its ranks of the options.

    >>> verdict(Question("i", ("a", "b"), ("k", "l"), 1), 1, [("the model", (2, 1))])
    'Right. Report 2 it is; the model puts it first.'
    """
    right = "Right. Report" if chosen == question.answer else "No. Report"
    said = []
    for name, of in models:
        place = of[question.answer]
        said.append(f"{name} puts it {'first' if place == 1 else f'at number {place}'}")
    return f"{right} {question.answer + 1} it is; {', '.join(said)}."
