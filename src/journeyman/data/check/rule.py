"""What a rule is, and what it looks at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

from journeyman.data.check.classify import Judged, judge
from journeyman.data.check.finding import Finding, FoundRow, FoundSplit, Mend, Severity
from journeyman.data.check.voice import Voice, voice_of
from journeyman.data.labels import closed_set, stray_labels
from journeyman.data.refused import Refused, quoted
from journeyman.data.similar import Similar, input_text, normalised, short_words, similar
from journeyman.records import Example, Message, Place

T = TypeVar("T")

JUDGED_ROWS = 30
"""From fewer rows no model can be made that could judge the others."""


class Checked(Protocol):
    """What a check looks at: a Dataset, or anything with the same rows."""

    @property
    def train(self) -> Sequence[Example]:
        """Rows to learn from."""

    @property
    def validation(self) -> Sequence[Example]:
        """Rows that the loss is watched on."""

    @property
    def held_out(self) -> Sequence[Example]:
        """Rows that no model sees before it is evaluated."""

    @property
    def refused(self) -> Sequence[Refused]:
        """Rows that were not kept."""

    @property
    def training_file_rows(self) -> int:
        """The kept rows of the training file, those split off from it included."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked somewhere else: a row of a file to compare with. It may have no answer, as in a traffic log."""

    input: str
    place: Place


@dataclass(frozen=True, slots=True)
class RowTokens:
    """A row's length as the base model reads it, before any cut, and how many of the tokens are learned."""

    total: int
    learned: int


@dataclass(frozen=True, slots=True)
class Tokenized:
    """How a base model reads rows; without one, tokens are estimated from the characters."""

    base: str
    max_tokens: int
    """A training cuts rows here."""

    count: Callable[[Sequence[Example]], Sequence[RowTokens]]
    cut_text: Callable[[Example], str]
    """The text of what a row has beyond `max_tokens`."""


FindNames = Callable[[Sequence[str]], Sequence[Sequence[tuple[int, int]]]]
"""Where people's names stand in each of many texts, as starts and ends."""


@dataclass(frozen=True)
class Rows:
    """All that a rule may look at. What several rules need is computed once, when it is first asked for.

    A row is known by its index in `all`: training, validation and held-out rows in this order.
    """

    train: Sequence[Example]
    validation: Sequence[Example] = ()
    held_out: Sequence[Example] = ()
    refused: Sequence[Refused] = ()
    training_file_rows: int = 0
    against: Sequence[Asked] = ()
    """A file to compare with, such as a public test set or a log of real traffic."""

    instructions: str = ""
    """The task's instructions.md."""

    graders: Sequence[Mapping[str, Any]] = ()
    """The task's grader objects, as task.toml has them."""

    tokenized: Tokenized | None = None
    losses: Sequence[Sequence[float]] = ()
    """After a training: for each row of `train` its loss in each epoch."""

    known_similarity: Similar | None = None
    """`input_similarity`, where the split has found it already."""

    names: FindNames | None = None
    """Where people's names stand in texts (`names.py`); None where nobody asked for that."""

    _found_once: dict[Callable[[Rows], Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, find: Callable[[Rows], T]) -> T:
        """What `find` finds in these rows; where several rules ask for it, it is computed once."""
        if find not in self._found_once:
            self._found_once[find] = find(self)
        found: T = self._found_once[find]
        return found

    @cached_property
    def all(self) -> list[Example]:
        """Every kept row."""
        return [*self.train, *self.validation, *self.held_out]

    @cached_property
    def splits(self) -> list[FoundSplit]:
        """The split of each row of `all`."""
        sizes = (len(self.train), len(self.validation), len(self.held_out))
        names: tuple[FoundSplit, ...] = ("train", "validation", "held_out")
        return [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]

    @cached_property
    def own(self) -> list[int]:
        """The rows of `all` that stand in a file that is trained on, those split off from it included.

        To its owner a file is one thing, wherever its rows came to lie; what was given to measure on is another.
        """
        files = {example.place.file for example in self.train}
        return [index for index, example in enumerate(self.all) if example.place.file in files]

    @cached_property
    def inputs(self) -> list[str]:
        """What is asked in each row of `all`, without the instructions."""
        return [input_text(example) for example in self.all]

    @cached_property
    def outputs(self) -> list[str]:
        """The ideal output of each row of `all` as one text, tool calls as JSON."""
        return [output_text(example) for example in self.all]

    @cached_property
    def calls(self) -> list[bool]:
        """Whether each row of `all` has tool calls for its ideal output: those are no text, and have no form or voice of one."""
        return [bool(example.ideal.tool_calls) for example in self.all]

    @cached_property
    def normal_inputs(self) -> list[str]:
        """`inputs` without case, widths and white space."""
        return [normalised(text) for text in self.inputs]

    @cached_property
    def normal_outputs(self) -> list[str]:
        """`outputs` without case, widths and white space."""
        return [normalised(text) for text in self.outputs]

    @cached_property
    def short_inputs(self) -> list[tuple[str, ...]]:
        """The words of each of `inputs` that is short, as `short_words` has them."""
        return [short_words(text) for text in self.normal_inputs]

    @cached_property
    def input_similarity(self) -> Similar:
        """Groups of inputs that say the same or nearly; after the rows of `all` stand those of `against`."""
        return self.known_similarity or similar([*self.inputs, *(asked.input for asked in self.against)])

    @cached_property
    def input_groups(self) -> list[int]:
        """The near-duplicate group of each row of `all`, by its input: the index of the group's first row."""
        return self.input_similarity.near[: len(self.all)]

    @cached_property
    def output_groups(self) -> list[int]:
        """The near-duplicate group of each row of `all`, by its output. Different labels are never near."""
        if self.labels is None:
            return similar(self.outputs).near
        first: dict[str, int] = {}
        return [first.setdefault(text, index) for index, text in enumerate(self.normal_outputs)]

    @cached_property
    def labels(self) -> list[str] | None:
        """The label of each row of `all`, where the outputs are a small closed set; else None."""
        return closed_set(self.outputs)

    @cached_property
    def strays(self) -> dict[str, str | None]:
        """Outputs that are no label of the set, and the label that each is meant to be where that is plain."""
        return stray_labels(self.labels or ())

    @cached_property
    def judged(self) -> Judged | None:
        """What models of the other rows say of each row's label; None where outputs are no labels, or very few."""
        if self.labels is None or len(self.labels) < JUDGED_ROWS:
            return None
        return judge(self.inputs, [self.strays.get(label) or label for label in self.labels])

    @cached_property
    def systems(self) -> list[str]:
        """The system or developer text of each row of `all`."""
        return [
            "\n".join(m.content for m in example.messages if m.role in ("system", "developer"))
            for example in self.all
        ]

    @cached_property
    def voices(self) -> list[Voice]:
        """How the ideal output of each row of `all` sounds."""
        return [voice_of(text) for text in self.outputs]

    def found(self, index: int, note: str = "", mend: Mend | None = None) -> FoundRow:
        """The row `index` of `all`, for a finding."""
        split = self.splits[index]
        start = {"validation": len(self.train), "held_out": len(self.train) + len(self.validation)}.get(split, 0)
        return FoundRow(self.all[index].place, split, index - start, note, mend)

    def shown(self, index: int) -> str:
        """The row's place and the beginning of its input, for a message."""
        return f"{self.all[index].place} {quoted(self.inputs[index])}"


def output_text(example: Example) -> str:
    """The ideal output as one text: what it says, then its tool calls as JSON."""
    ideal = example.ideal
    calls = [json.dumps(dict(call["function"]), ensure_ascii=False) for call in ideal.tool_calls]
    return "\n".join([ideal.content, *calls] if ideal.content else calls)


Conversation = tuple[Message, ...]


def pair(said: str, output: str, instructions: str = "") -> Conversation:
    """A conversation of one question and its ideal answer."""
    turns = (Message("user", said), Message("assistant", output))
    return (Message("system", instructions), *turns) if instructions else turns


@dataclass(frozen=True, slots=True)
class Sample:
    """A small dataset that shows what a rule finds: the documentation prints it, and a test runs the rule on it."""

    train: Sequence[Conversation]
    validation: Sequence[Conversation] = ()
    held_out: Sequence[Conversation] = ()
    refused: Sequence[Refused] = ()
    against: Sequence[str] = ()
    instructions: str = ""
    graders: Sequence[Mapping[str, Any]] = ()
    losses: Sequence[Sequence[float]] = field(default=())
    tools: Sequence[Mapping[str, Any]] = ()

    def rows(self) -> Rows:
        """The sample as a rule sees it, each split as a file of its own."""
        return Rows(
            train=self._examples(self.train, "examples.jsonl"),
            validation=self._examples(self.validation, "validation.jsonl"),
            held_out=self._examples(self.held_out, "held_out.jsonl"),
            refused=self.refused,
            training_file_rows=len(self.train),
            against=[Asked(text, Place("traffic.jsonl", n)) for n, text in enumerate(self.against, 1)],
            instructions=self.instructions,
            graders=self.graders,
            losses=self.losses,
        )

    def _examples(self, conversations: Sequence[Conversation], file: str) -> list[Example]:
        return [Example(messages, Place(file, line), tuple(self.tools)) for line, messages in enumerate(conversations, 1)]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that may be wrong with a dataset.

    `find` yields findings of this code; it never raises for what rows say, takes time linear in the rows, and gives
    the same findings for the same rows. `severity` is the worst that a finding of it may have.
    """

    code: str
    title: str
    severity: Severity
    meaning: str
    why: str
    mend: str
    example: Sample
    find: Callable[[Rows], Iterator[Finding]]
