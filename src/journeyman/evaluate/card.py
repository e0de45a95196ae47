"""The model card of a fine-tuned model: what it is, what it was measured to do, and what not to use it for."""

from __future__ import annotations

from journeyman.evaluate.markdown import MISSING
from journeyman.evaluate.page import SHAPES, Subject, share
from journeyman.evaluate.report import Evaluation
from journeyman.evaluate.statistics import Missing


def card(evaluation: Evaluation, subject: Subject) -> str:
    """The card as Markdown, with the metadata block that model hubs read."""
    blocks = [
        f"---\nbase_model: {subject.base}\ntags:\n- fine-tuned\n- journeyman\n---",
        f"# {subject.model}",
        f"{subject.base}, fine-tuned ({subject.method}) on {subject.trained_rows:,} examples of the task {subject.task}.",
        "## What was measured",
        evaluation.verdict.sentence,
        _graders(evaluation),
    ]
    if evaluation.forgetting is not None:
        blocks += ["## What it forgot", evaluation.forgetting.sentence, _skills(evaluation)]
    if evaluation.saving is not None:
        saving = evaluation.saving
        blocks += [
            "## How to call it",
            f"Without the instructions, which now live in the model: {saving.bare:,.0f} prompt tokens a request instead of "
            f"{saving.with_instructions:,.0f}, {saving.tokens:,.0f} fewer per 1,000 requests.",
        ]
    blocks += [
        "## Limits",
        "Measured on held-out rows of its own task and on the general items above, and on nothing else. What its base can't "
        "do or should not be used for holds for it too; facts that change belong into the prompt.",
        "## How it was made",
        "\n".join(f"- {name}: {value}" for name, value, _ in subject.plan)
        + f"\n- dataset {subject.dataset_hash[:16]}, base {subject.base_fingerprint[:16]}, made {subject.created}",
    ]
    return "\n\n".join(blocks) + "\n"


def _graders(evaluation: Evaluation) -> str:
    lines = ["| held-out rows that pass | base | tuned |", "| --- | ---: | ---: |"]
    lines += [f"| {g.name} | {share(g.before)} | {share(g.after)} |" for g in evaluation.graders]
    lines.append(f"| all graders | {share(evaluation.passed_before)} | {share(evaluation.passed_after)} |")
    return "\n".join(lines)


def _skills(evaluation: Evaluation) -> str:
    lines = ["| skill | base | tuned | |", "| --- | ---: | ---: | --- |"]
    for skill in evaluation.forgetting.skills if evaluation.forgetting else ():
        base, tuned = (MISSING[v] if isinstance(v, Missing) else f"{v:.1%}" for v in (skill.base, skill.tuned))
        lines.append(f"| {skill.name} | {base} | {tuned} | {SHAPES[skill.verdict]} |")
    return "\n".join(lines)

