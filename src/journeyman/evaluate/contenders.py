"""The contenders of a comparison, as a list: who answers, with what in the prompt, and what each needs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from journeyman.errors import RequestError

Who = Literal["base", "tuned", "remote", "tfidf", "head"]
Role = Literal["prompt", "retrieval", "tuned", "both", "outsider"]
"""What a contender stands for in the advice."""

Need = Literal["instructions", "documents", "labels", "examples"]
WHY_NOT: dict[Need, str] = {
    "instructions": "the task has no instructions.md",
    "documents": "the task has no documents/",
    "labels": "the ideal outputs are no closed set of labels",
    "examples": "there are no training rows to show",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One contender: `shots` and `documents` say what is put into the prompt beside the instructions.

    `searched` takes instructions and shots from the prompt search. `model` is a remote model's name.
    """

    name: str
    title: str
    who: Who
    role: Role
    instructions: bool = False
    shots: Literal["", "fixed", "nearest"] = ""
    documents: bool = False
    searched: bool = False
    model: str = ""

    @property
    def retrieves(self) -> bool:
        """Whether what stands in its prompt is what is nearest to the message."""
        return self.documents or self.shots == "nearest"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the task must have for it. Without instructions, a prompt of examples or documents is still one."""
        if self.who in ("tfidf", "head"):
            return ("labels",)
        needs: list[Need] = []
        if self.documents:
            needs.append("documents")
        if self.shots or self.searched:
            needs.append("examples")
        if self.instructions and not (self.shots or self.searched):
            needs.append("instructions")
        return tuple(needs)


LOCAL = (
    Recipe("base", "base, bare", "base", "prompt"),
    Recipe("prompt", "instructions", "base", "prompt", instructions=True),
    Recipe("few_shot", "instructions + fixed examples", "base", "prompt", instructions=True, shots="fixed"),
    Recipe("nearest", "instructions + nearest examples", "base", "prompt", instructions=True, shots="nearest"),
    Recipe("optimised", "optimised prompt", "base", "prompt", searched=True),
    Recipe("retrieval", "documents", "base", "retrieval", documents=True),
    Recipe("prompt_retrieval", "instructions + documents", "base", "retrieval", instructions=True, documents=True),
    Recipe("tuned", "fine-tuned, bare", "tuned", "tuned"),
    Recipe("tuned_retrieval", "fine-tuned + documents", "tuned", "both", documents=True),
    Recipe("tfidf", "TF-IDF + logistic regression", "tfidf", "outsider"),
    Recipe("head", "classifier on the base's hidden states", "head", "outsider"),
)  # fmt: skip
REMOTE = tuple(r for r in LOCAL if r.name in ("prompt", "nearest", "prompt_retrieval"))
"""What a remote model is asked with."""


def recipes(remote_models: Collection[str] = ()) -> tuple[Recipe, ...]:
    """All contenders, those of remote models under `MODEL:NAME`."""
    of_remotes = [
        replace(r, name=f"{model}:{r.name}", title=f"{model}: {r.title}", who="remote", model=model)
        for model in remote_models
        for r in REMOTE
    ]
    return (*LOCAL, *of_remotes)


def choose(
    known: Collection[Recipe], has: Collection[Need], names: Collection[str] = ()
) -> tuple[list[Recipe], dict[str, str]]:
    """The contenders that take part, and why each of the others does not.

    `names` asks for some only. Raises RequestError that lists unknown names, and what each asked-for one lacks.
    """
    problems = [f"there is no contender {name!r}" for name in names if name not in {r.name for r in known}]
    left_out: dict[str, str] = {}
    for recipe in known:
        lacks = [WHY_NOT[need] for need in recipe.needs if need not in has]
        if lacks:
            left_out[recipe.name] = "; ".join(lacks)
            problems += [f"{recipe.name}: {left_out[recipe.name]}"] if recipe.name in names else []
        elif names and recipe.name not in names:
            left_out[recipe.name] = "not asked for"
    if problems:
        raise RequestError(
            "these contenders can't take part",
            where="--contenders",
            fix=f"choose of {', '.join(r.name for r in known if r.name not in left_out or r.name in names)}",
            code="unknown_contender",
            problems=problems,
        )
    return [r for r in known if r.name not in left_out], left_out
