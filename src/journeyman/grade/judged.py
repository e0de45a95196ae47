"""Graders that ask a judge model: OpenAI's label_model and score_model.

The judge is asked for `{"result": ...}` as JSON that fits a schema, so that its word can be read without guessing. What
it is, and how it is reached, is the caller's to say (`Judge`): nothing here knows of models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from journeyman.grade.fields import Fields
from journeyman.grade.score import Item, Measure, Measured, NotMeasurableError, Sample
from journeyman.grade.template import Template

MAX_TOKENS = 256
RANGE = (0.0, 1.0)
"""What a score_model's number is in, where it does not say."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge is asked: messages of (role, text), and the JSON schema that its answer must fit.

    `model` is an id on this machine; with `url`, a model behind that OpenAI-compatible URL, whose key is in the
    environment variable `key`.
    """

    model: str
    messages: tuple[tuple[str, str], ...]
    schema: str
    url: str = ""
    key: str = ""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int = MAX_TOKENS


Judge = Callable[[Question], str]
"""Asks a judge model; raises NotMeasurableError where it can't answer this question."""


def no_judge(_question: Question) -> str:
    """The judge where none is asked, as in the data check: nothing is measured."""
    raise NotMeasurableError("no judge model is asked here", fault="judge_away")


def label_model(fields: Fields, judge: Judge) -> Measure:
    """OpenAI's label_model: the judge chooses one of `labels`; `passing_labels` have value 1 and pass."""
    ask = _asker(fields)
    labels, passing = fields.texts("labels"), fields.texts("passing_labels")
    for label in passing:
        if labels and label not in labels:
            fields.problem("passing_labels", f"{label!r} is none of the labels", f"use some of {', '.join(labels)}")
    schema = _schema({"enum": list(labels)})

    def measure(sample: Sample, item: Item) -> Measured:
        label = _result(judge(ask(sample, item, schema)))
        if label not in labels:
            raise NotMeasurableError(f"the judge said {label!r}, which is none of the labels", fault="judge_unclear")
        return Measured(float(label in passing), label in passing)

    return measure


def score_model(fields: Fields, judge: Judge) -> Measure:
    """OpenAI's score_model: the judge gives a number, clipped to `range` (0 to 1); it passes from `pass_threshold` on."""
    ask = _asker(fields)
    low, high = fields.span("range", RANGE)
    threshold = fields.number("pass_threshold")
    schema = _schema({"type": "number", "minimum": low, "maximum": high})

    def measure(sample: Sample, item: Item) -> Measured:
        value = _result(judge(ask(sample, item, schema)))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value in (math.inf, -math.inf):
            raise NotMeasurableError(f"the judge said {value!r}, which is no number", fault="judge_unclear")
        clipped = float(min(high, max(low, value)))
        return Measured(clipped, None if threshold is None else clipped >= threshold)

    return measure


def _asker(fields: Fields) -> Callable[[Sample, Item, str], Question]:
    """The fields that both types have, as a function from a row to what the judge is asked of it."""
    model, url, key = fields.text("model"), fields.text("url", ""), fields.text("key", "")
    messages = _messages(fields)
    sampling = fields.mapping("sampling_params") if fields.has("sampling_params") else fields.raw("sampling_params") or {}
    numbers = Fields(sampling, f"{fields.where}, sampling_params", fields.problems)
    temperature, top_p = numbers.number("temperature") or 0.0, numbers.number("top_p") or 1.0
    max_tokens = numbers.count("max_completions_tokens") or numbers.count("max_completion_tokens") or MAX_TOKENS
    seed = numbers.raw("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        numbers.problem("seed", f"{seed!r} is not a whole number", "write seed = 1, for example")

    def ask(sample: Sample, item: Item, schema: str) -> Question:
        return Question(
            model=model,
            messages=tuple((role, text.fill(sample, item)) for role, text in messages),
            schema=schema,
            url=url,
            key=key,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            max_tokens=max_tokens,
        )

    return ask


def _messages(fields: Fields) -> list[tuple[str, Template]]:
    """`input`: messages with a role and a text (or text parts, as OpenAI's), each with variables."""
    value = fields.raw("input")
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        fields.problem("input", "is no list of messages", 'write [{"role": "user", "content": "..."}]')
        return []
    out = []
    for number, message in enumerate(value, 1):
        role, text = (message.get("role"), _text(message.get("content"))) if isinstance(message, Mapping) else (None, None)
        if role not in ("system", "developer", "user", "assistant") or text is None:
            fields.problem("input", f"message {number} has no role and text", 'write {"role": "user", "content": "..."}')
            continue
        try:
            out.append((role, Template.parse(text)))
        except ValueError as error:
            fields.problem("input", f"message {number}: {error}", "name a variable that exists, or leave the braces out")
    return out


def _text(content: Any) -> str | None:
    """A message's text: a text itself, a part {type: input_text or output_text, text}, or a list of such parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [p.get("text") for p in parts if isinstance(p, Mapping) and p.get("type") in ("input_text", "output_text", "text")]
    known = [text for text in texts if isinstance(text, str)]
    return "".join(known) if known and len(known) == len(parts) else None


def _schema(result: Mapping[str, Any]) -> str:
    schema = {"type": "object", "properties": {"result": result}, "required": ["result"], "additionalProperties": False}
    return json.dumps(schema, ensure_ascii=False)


def _result(said: str) -> Any:
    """The judge's result. Raises NotMeasurableError where it said something else."""
    try:
        return json.loads(said)["result"]
    except (ValueError, KeyError, TypeError):
        message = f"the judge did not answer with a result: {said[:80]!r}"
        raise NotMeasurableError(message, fault="judge_unclear") from None
