"""From a dataset and a base to a plan, without torch: what a training would be refused for is found here.

`check`, `plan` and `train` all pass through `draw_plan`, so that they can't disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from journeyman.data.check.shape import too_few
from journeyman.data.dataset import Dataset
from journeyman.errors import DataError
from journeyman.models.bases import Base
from journeyman.plan.machine import Machine
from journeyman.plan.plan import DataFacts, Plan, Wishes, make_plan, refuse_wishes
from journeyman.plan.shape import ModelShape
from journeyman.text.batch import epoch_steps
from journeyman.text.encode import Encoded, encode
from journeyman.text.shared import computed_tokens
from journeyman.text.template import ChatFormat


@dataclass(frozen=True)
class Encodings:
    """The encoded splits, and what became of every row."""

    train: list[Encoded]
    validation: list[Encoded]
    ledger: list[dict[str, Any]]

    def facts(self) -> DataFacts:
        """What the plan must know."""
        return DataFacts(
            rows=len(self.train),
            tokens=sum(len(e) for e in self.train),
            learned_tokens=sum(e.learned_tokens for e in self.train),
            longest_row_tokens=max((len(e) + e.cut_tokens for e in (*self.train, *self.validation)), default=0),
            validation_rows=len(self.validation),
            validation_tokens=sum(len(e) for e in self.validation),
            truncated_rows=sum(e.cut_tokens > 0 for e in self.train),
        )

    def step_tokens(self, batch_size: int) -> list[int]:
        """The training tokens of each step of an epoch, counting once a step what several of its rows begin with.

        Counted on the first epoch of seed 0: which rows meet in a step hardly changes the sum.
        """
        steps = epoch_steps(len(self.train), batch_size, seed=0, epoch=0)
        return [computed_tokens([self.train[i] for i in step]) for step in steps]


def encode_dataset(dataset: Dataset, chat: ChatFormat, *, max_tokens: int) -> Encodings:
    """Encode both training splits and write down what became of every row of the source.

    A row in which nothing is left to learn (its template refuses it, or the cut removed the answer) is refused
    here, with the reason; nothing else is left out.
    """
    ledger = [{**refused.as_dict(), "fate": "refused"} for refused in dataset.refused]
    splits: dict[str, list[Encoded]] = {"train": [], "validation": []}
    for name, examples in (("train", dataset.train), ("validation", dataset.validation)):
        for example in examples:
            entry = {"file": example.place.file, "line": example.place.line, "split": name}
            try:
                sequences = [e for e in encode(example, chat, max_tokens=max_tokens) if e.learned_tokens]
            except DataError as error:
                ledger.append({**entry, "fate": "refused", "code": error.code, "reason": error.message})
                continue
            if not sequences:
                reason = f"no learned token is left within {max_tokens} tokens"
                ledger.append({**entry, "fate": "refused", "code": "nothing_learned", "reason": reason})
                continue
            splits[name] += sequences
            cut = sum(e.cut_tokens for e in sequences)
            fate = {"fate": "truncated", "cut_tokens": cut} if cut else {"fate": "trained"}
            learned = sum(e.learned_tokens for e in sequences)
            ledger.append({**entry, **fate, "learned_tokens": learned} if name == "train" else {**entry, **fate})
    ledger += [
        {"file": e.place.file, "line": e.place.line, "split": "held_out", "fate": "held out"} for e in dataset.held_out
    ]
    return Encodings(splits["train"], splits["validation"], ledger)


def draw_plan(base: Base, dataset: Dataset, machine: Machine, wishes: Wishes) -> tuple[Plan, Encodings]:
    """Encode the data and decide every value. Raises PlanError and DataError with all problems at once."""
    _refuse_too_few(dataset)
    chat = ChatFormat.open(base.folder)
    shape = ModelShape.read(base.folder)
    refuse_wishes(wishes, shape)
    encodings = encode_dataset(dataset, chat, max_tokens=wishes.max_tokens or shape.context_tokens)
    if not encodings.train:
        raise DataError(
            "nothing would be learned from this dataset",
            where=_training_file(dataset),
            fix="raise max_tokens where the answers are cut off, or mend the rows as the reasons say",
            code="nothing_learned",
            problems=sorted({str(e["reason"]) for e in encodings.ledger if e["fate"] == "refused"})[:5],
        )
    plan = make_plan(
        base=base.name,
        base_hash=base.fingerprint,
        dataset_hash=dataset.hash,
        facts=encodings.facts(),
        shape=shape,
        machine=machine,
        wishes=wishes,
        step_tokens=encodings.step_tokens,
    )
    return plan, encodings


def _refuse_too_few(dataset: Dataset) -> None:
    reason = too_few(dataset.training_file_rows)
    if reason:
        raise DataError(
            reason,
            where=_training_file(dataset),
            fix="add examples; a few hundred good ones are a sound beginning",
            code="invalid_n_examples",
        )


def _training_file(dataset: Dataset) -> str:
    return str(dataset.manifest["sources"][0]["file"])
