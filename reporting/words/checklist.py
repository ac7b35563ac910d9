"""A reporting guideline's checklist: what each item asks for, and what a run answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from run_folder.run_record import RunRecord

BY_AUTHORS = "to be filled in by the authors"
Answers = Mapping[str, Callable[[RunRecord], str]]


@dataclass(frozen=True)
class Item:
    """One line of a checklist.

    Attributes
    ----------
    number, asks : the item, and what it asks for in short.
    answer : this run's, which may leave a part, or all, to the authors.
    """

    number: str
    asks: str
    answer: str

    @property
    def state(self) -> str:
        """ "answered", "in part" where something is left to the authors, "open" where all is."""
        if self.answer.startswith(BY_AUTHORS):
            return "open"
        return "in part" if BY_AUTHORS in self.answer else "answered"


@dataclass(frozen=True)
class Checklist:
    """A guideline's items, in its order, answered for one run.

    Attributes
    ----------
    name, source : of the guideline, and where it was published.
    anchor : its id on a page.
    kind : what its items are.
    """

    name: str
    source: str
    anchor: str
    items: list[Item]
    kind: str = "items of the reporting guideline"

    def numbers(self, state: str) -> list[str]:
        """Return the numbers of the items that are "answered", "in part" or "open"."""
        return [item.number for item in self.items if item.state == state]


def answered(asks: Mapping[str, str], answers: Answers, record: RunRecord) -> list[Item]:
    """Return each item with a run's answer; one without is left to the authors."""
    return [
        Item(number, text, answers[number](record) if number in answers else BY_AUTHORS)
        for number, text in asks.items()
    ]
