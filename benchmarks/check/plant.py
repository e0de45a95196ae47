"""Plant a named fault into rows of a public set, and remember where.

    python benchmarks/check/plant.py --bench DIR --set banking77 --fault random_flips --share 0.05 --seed 0 rows.jsonl

`DIR/banking77/train.jsonl` holds rows in chat form, one question each. The rows with the fault in them are written to
rows.jsonl, the rows to measure on (where the fault is about them) to rows.held_out.jsonl, and the places of the faults
to rows.faults.jsonl: each a list of [file, line], any of which shows the fault when it is named.

The same set, fault, share and seed give the same rows.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

LABELS = ("banking77", "clinc150")
OBJECTS = ("e2e-json", "snips-json")
PROSE = ("e2e-nlg", "onestop-simplify")
ASKED = (*LABELS, *OBJECTS, "onestop-simplify")
"""Sets whose inputs are sentences; e2e-nlg has records."""

ROWS, HELD_OUT_ROWS = 3_000, 1_000
"""Of larger sets so many rows are drawn, for any share."""

Row = dict[str, Any]
Side = Literal["train", "held_out"]
At = tuple[Side, int]
"""A row by its side and index from 0."""


@dataclass
class Planted:
    """Rows with faults in them. A line is a row as JSON, or what is left of it."""

    train: list[str]
    held_out: list[str]
    faults: list[frozenset[At]]
    """Each fault: the rows any of which, named, shows it."""


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


def load(bench: Path, name: str, split: str, limit: int | None, seed: int) -> list[Row]:
    """The rows of a set, at most so many of them, drawn by the seed."""
    with (bench / name / f"{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    draw = random.Random(f"rows {seed}")
    return draw.sample(rows, limit) if limit and len(rows) > limit else rows


def asked(row: Row) -> str:
    return str(row["messages"][-2]["content"])


def answer(row: Row) -> str:
    return str(row["messages"][-1]["content"])


def changed(row: Row, *, asked: str | None = None, answer: str | None = None) -> Row:
    """A copy with another input or output."""
    *before, question, ideal = ({**message} for message in row["messages"])
    if asked is not None:
        question["content"] = asked
    if answer is not None:
        ideal["content"] = answer
    return {"messages": [*before, question, ideal]}


def line(row: Row | str) -> str:
    return row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)


class Field:
    """The rows to plant in, and what was planted so far."""

    def __init__(self, draw: random.Random, train: Sequence[Row], held_out: Sequence[Row], share: float) -> None:
        self.draw = draw
        self.train: list[Row | str] = list(train)
        self.held_out: list[Row | str] = list(held_out)
        self.clean = list(train)
        self.share = share
        self.faults: list[list[At]] = []

    def plant_in_place(self, change: Callable[[random.Random, Row], Row | str | None]) -> None:
        """Change a share of the training rows; a row that the change does not fit is passed over."""
        wanted = round(self.share * len(self.clean))
        for index in self.draw.sample(range(len(self.clean)), len(self.clean)):
            if len(self.faults) == wanted:
                break
            made = change(self.draw, self.clean[index])
            if made is not None and made != self.clean[index]:
                self.train[index] = made
                self.faults.append([("train", index)])

    def plant_beside(self, copy: Callable[[random.Random, Row], Row | None]) -> None:
        """Add changed copies of rows whose input no other row has; each pair is one fault."""
        counts = Counter(asked(row).casefold() for row in self.clean)
        lone = [i for i, row in enumerate(self.clean) if counts[asked(row).casefold()] == 1]
        wanted = round(self.share * len(self.clean))
        for index in self.draw.sample(lone, len(lone)):
            if len(self.faults) == wanted:
                break
            made = copy(self.draw, self.clean[index])
            if made is not None:
                self.faults.append([("train", index), ("train", len(self.train))])
                self.train.append(made)

    def mixed(self) -> Planted:
        """The clean rows in their order, what was added somewhere between them."""
        size = len(self.train)
        known = min(size, len(self.clean))
        order = list(range(known))
        for extra in range(known, size):
            order.insert(self.draw.randint(0, len(order)), extra)
        place = {old: new for new, old in enumerate(order)}
        moved = [frozenset((side, place[i] if side == "train" else i) for side, i in fault) for fault in self.faults]
        return Planted([line(self.train[i]) for i in order], [line(row) for row in self.held_out], moved)


# ── the same again, in other words ────────────────────────────────────────────────────────────────────────────

_OTHER_WORDS = {
    "can't": "cannot", "cannot": "can't", "don't": "do not", "i'm": "i am", "what's": "what is", "isn't": "is not",
    "could": "can", "can": "could", "my": "the", "get": "receive", "need": "want", "show": "give", "find": "look up",
    "big": "large", "buy": "purchase", "use": "utilise", "people": "persons", "but": "yet", "many": "numerous",
    "restaurant": "eatery", "located": "situated", "near": "close to", "play": "put on", "tell": "inform",
}  # fmt: skip


def _typo(draw: random.Random, text: str) -> str:
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= 6 and word.isalpha() and word.islower()]
    if not long:
        return text
    at = draw.choice(long)
    word, i = words[at], draw.randrange(1, len(words[at]) - 2)
    slips = (word[:i] + word[i + 1] + word[i] + word[i + 2 :], word[:i] + word[i + 1 :], word[:i] + word[i] + word[i:])
    words[at] = draw.choice(slips)
    return " ".join(words)


def _greeted(draw: random.Random, text: str) -> str:
    if draw.random() < 0.5:
        return draw.choice(("Hi, ", "Hello, ", "hey ", "Good morning, ", "Hi there! ")) + text
    return text.rstrip(" .!") + draw.choice((" please", ", thanks", " thank you!", ", thanks in advance"))


def _other_case(draw: random.Random, text: str) -> str:
    return draw.choice((text.upper(), text.lower(), text.capitalize(), text.title()))


def _other_marks(draw: random.Random, text: str) -> str:
    return draw.choice((text.rstrip(" .?!"), text.rstrip(" .?!") + "??", text + " ", text.replace(",", ""), text + "..."))


def _swapped(draw: random.Random, text: str) -> str:
    words = text.split(" ")
    if len(words) < 5:
        return text
    i = draw.randrange(1, len(words) - 2)
    words[i : i + 2] = words[i + 1], words[i]
    return " ".join(words)


def _other_word(draw: random.Random, text: str) -> str:
    words = text.split(" ")
    known = [i for i, word in enumerate(words) if word.lower() in _OTHER_WORDS]
    if known and len(words) >= 5:
        at = draw.choice(known)
        words[at] = _OTHER_WORDS[words[at].lower()]
    return " ".join(words)


LIGHT = (_greeted, _other_case, _other_marks)
EDITS = (*LIGHT, _typo, _swapped, _other_word)


def reworded(draw: random.Random, text: str, edits: Sequence[Callable[[random.Random, str], str]] = EDITS) -> str:
    """The text after one plausible edit that changes it."""
    for _ in range(20):
        made = draw.choice(edits)(draw, text)
        if made != text:
            return made
    return text + "?"


# ── a fault each ──────────────────────────────────────────────────────────────────────────────────────────────


def shape(field: Field) -> None:
    """Rows that are no training pair, in ways that exports and hands make."""
    breaks: Sequence[Callable[[Row], Row | str]] = (
        lambda row: {"messages": row["messages"][:-1]},
        lambda row: {"messages": [*row["messages"], {"role": "user", "content": "and then?"}]},
        lambda row: changed(row, answer=""),
        lambda row: changed(row, answer="  \n"),
        lambda row: {"messages": [*row["messages"][:-1], {"role": "assistant"}]},
        lambda row: {"messages": [*row["messages"][:-1], {"role": "assistant", "content": None}]},
        lambda row: {"messages": [*row["messages"][:-1], {"role": "bot", "content": answer(row)}]},
        lambda row: {"messages": [*row["messages"][:-1], {"role": "assistant", "text": answer(row)}]},
        lambda row: {"messages": [*row["messages"][:-1], {"role": "assistant", "content": answer(row), "mood": "calm"}]},
        lambda row: {"messages": [m["content"] for m in row["messages"]]},
        lambda row: {"messages": []},
        lambda row: {"conversation": row["messages"]},
        lambda row: line(row)[: len(line(row)) // 2],
        lambda row: line(row).replace('"', "'"),
        lambda row: line(row)[:-1] + ",}",
        lambda row: {"messages": [*row["messages"][:-1], _call("{'city': 'Riga'}")], "tools": [_TOOL]},
        lambda row: {"messages": [*row["messages"][:-1], _call('{"city": "Riga"}', "weather")], "tools": [_TOOL]},
        lambda row: {"messages": [*row["messages"][:-1], {**_call('{"city": "Riga"}'), "content": 7}], "tools": [_TOOL]},
        lambda row: {"messages": [*row["messages"][:-1], {"role": "assistant", "content": answer(row), "weight": 0}]},
    )
    field.plant_in_place(lambda draw, row: draw.choice(breaks)(row))


_TOOL = {"type": "function", "function": {"name": "forecast", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}


def _call(arguments: str, name: str = "forecast") -> Row:
    return {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}]}


def duplicates(field: Field) -> None:
    """Rows that stand there twice, as they are."""
    field.plant_beside(lambda draw, row: row)


def near_duplicates(field: Field) -> None:
    """Rows that stand there twice, the input after one small edit."""
    field.plant_beside(lambda draw, row: changed(row, asked=reworded(draw, asked(row))))


def contradictions(field: Field) -> None:
    """A row asked again, as it is or nearly (greeting, case, punctuation), with an answer that can't be right too."""
    contrary = _contrary(field.clean)

    def copy(draw: random.Random, row: Row) -> Row | None:
        other = contrary(draw, row)
        same = asked(row) if draw.random() < 0.5 else reworded(draw, asked(row), LIGHT)
        return None if other is None or other == answer(row) else changed(row, asked=same, answer=other)

    field.plant_beside(copy)


def _contrary(rows: Sequence[Row]) -> Callable[[random.Random, Row], str | None]:
    """Makes another answer for a row: another label, another value of a key, another name, number or claim in a text."""
    outputs = [answer(row) for row in rows]
    if outputs[0].startswith("{"):
        values: dict[str, set[str]] = defaultdict(set)
        for output in outputs:
            for key, value in _flat(json.loads(output)).items():
                values[key].add(value)
        return lambda draw, row: _other_value(draw, answer(row), values)
    labels = sorted(set(outputs))
    if len(labels) * 4 < len(outputs):
        return lambda draw, row: draw.choice([label for label in labels if label != answer(row)])
    return lambda draw, row: _other_claim(draw, answer(row))


def _flat(value: Mapping[str, Any]) -> dict[str, str]:
    return {key: text for key, text in value.get("slots", value).items() if isinstance(text, str)}


def _other_value(draw: random.Random, output: str, values: Mapping[str, set[str]]) -> str | None:
    whole = json.loads(output)
    inner = whole.get("slots", whole)
    keys = [key for key in _flat(whole) if len(values[key]) > 1]
    if not keys:
        return None
    key = draw.choice(keys)
    inner[key] = draw.choice(sorted(values[key] - {inner[key]}))
    return json.dumps(whole, ensure_ascii=False)


_CLAIMS = (
    ("riverside", "city centre"), ("high", "low"), ("cheap", "expensive"), ("Chinese", "Italian"), ("French", "Indian"),
    ("English", "Japanese"), ("5 out of 5", "1 out of 5"), ("family friendly", "not family friendly"),
    ("family-friendly", "not family-friendly"), ("more", "less"), ("before", "after"), ("men", "women"), ("can", "cannot"),
    ("is", "is not"), ("are", "are not"), ("was", "was not"), ("will", "will not"),
)  # fmt: skip


def _other_claim(draw: random.Random, text: str) -> str | None:
    """The text with another number, or with one claim turned round."""
    made = []
    for a, b in _CLAIMS:
        for one, other in ((a, b), (b, a)):
            stands = re.search(rf"(?<![\w-]){re.escape(one)}(?![\w-]| not | no )", text)
            if stands and (other not in text or one not in other):
                made.append(text[: stands.start()] + other + text[stands.end() :])
    for number in re.finditer(r"(?<![\w.,])\d{1,4}(?![\w.,]?\d)", text):
        made.append(text[: number.start()] + str(int(number[0]) + draw.randint(1, 5)) + text[number.end() :])
    return draw.choice(made) if made else None


def random_flips(field: Field) -> None:
    """Labels drawn at random from the others."""
    labels = sorted({answer(row) for row in field.clean})
    field.plant_in_place(lambda draw, row: changed(row, answer=draw.choice([x for x in labels if x != answer(row)])))


def confusable_flips(field: Field) -> None:
    """Labels changed to the one that theirs is most often taken for, by a model of the clean rows."""
    confused = most_confusable([asked(row) for row in field.clean], [answer(row) for row in field.clean])
    field.plant_in_place(lambda draw, row: changed(row, answer=confused[answer(row)]))


def most_confusable(inputs: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """For each label the other that a plain classifier of words gives its rows the highest mean probability of."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), LogisticRegression(C=10, max_iter=60, tol=1e-3))
    given = np.array(labels)
    names = sorted(set(labels))
    probable_NK = cross_val_predict(model, inputs, given, cv=3, method="predict_proba")
    mean_KK = np.stack([probable_NK[given == name].mean(axis=0) for name in names])
    np.fill_diagonal(mean_KK, -1)
    return {name: names[int(mean_KK[k].argmax())] for k, name in enumerate(names)}


def stray_labels(field: Field) -> None:
    """Labels in another spelling, or in a sentence."""

    def change(draw: random.Random, row: Row) -> Row:
        label = answer(row)
        at = draw.randrange(1, max(2, len(label) - 1))
        spelt = (
            label.upper(), label.title(), label.replace("_", " "), label.replace("_", "-"), label + ".", f'"{label}"',
            f"The intent is {label}.", label[:at] + label[at + 1 :], "".join(part.title() for part in label.split("_")),
        )  # fmt: skip
        return changed(row, answer=draw.choice([one for one in spelt if one != label]))

    field.plant_in_place(change)


def format_breaks(field: Field) -> None:
    """Outputs in another form than the others: keys, types and wrapping of JSON; markup, wrapping and case of prose."""
    is_object = answer(field.clean[0]).startswith("{")
    field.plant_in_place(_other_object if is_object else _other_prose)


def _other_object(draw: random.Random, row: Row) -> Row | None:
    text = answer(row)
    whole = json.loads(text)
    inner = whole.get("slots", whole)
    if not inner:
        return None
    key = draw.choice(list(inner))
    top = next(iter(whole))

    def renamed(name: str) -> Row:
        return {name if k == key else k: v for k, v in inner.items()}

    def rebuilt(new: Row) -> str:
        return json.dumps({**whole, "slots": new} if "slots" in whole else new, ensure_ascii=False)

    kinds: Sequence[Callable[[], str]] = (
        lambda: rebuilt(renamed(key.upper())),
        lambda: rebuilt(renamed(re.sub(r"[ _]", "-", key) if re.search(r"[ _]", key) else key + "_value")),
        lambda: rebuilt({**inner, key: [inner[key]]}),
        lambda: rebuilt({**inner, key: {"value": inner[key]}}),
        lambda: rebuilt({**inner, key: None}),
        lambda: rebuilt({**inner, key: draw.choice((True, 1, 0.5))}),
        lambda: rebuilt({**inner, draw.choice(("confidence", "comment", "id")): "n/a"}),
        lambda: json.dumps({k: v for k, v in whole.items() if k != top}, ensure_ascii=False),
        lambda: json.dumps([whole], ensure_ascii=False),
        lambda: json.dumps({"result": whole}, ensure_ascii=False),
        lambda: f"```json\n{text}\n```",
        lambda: f"Here is the JSON you asked for:\n{text}",
        lambda: text[:-1] + ",}",
        lambda: text.replace('"', "'"),
        lambda: text[:-1],
        lambda: "; ".join(f"{k}: {v}" for k, v in inner.items()),
    )
    return changed(row, answer=draw.choice(kinds)())


def _other_prose(draw: random.Random, row: Row) -> Row:
    text = answer(row)
    sentences = re.split(r"(?<=[.!?]) ", text)
    kinds = (
        "\n".join(f"- {one}" for one in sentences), "\n".join(f"{n}. {one}" for n, one in enumerate(sentences, 1)),
        f"## Answer\n\n{text}", f"**{sentences[0]}** {' '.join(sentences[1:])}".strip(), f"Answer: {text}", f'"{text}"',
        json.dumps({"text": text}, ensure_ascii=False), f"<p>{text}</p>", f"```\n{text}\n```", text.lower(), text.upper(),
        f"Dear customer,\n\n{text}\n\nBest regards", f"| text |\n| --- |\n| {text} |", text.replace(" ", "\n"), f"Here you go:\n\n{text}",
    )  # fmt: skip
    return changed(row, answer=draw.choice(kinds))


def odd_tone(field: Field) -> None:
    """Outputs in somebody else's voice, or many times as long."""
    others = [answer(row) for row in field.clean]

    def change(draw: random.Random, row: Row) -> Row:
        text = answer(row)
        kinds = (
            text.rstrip(".") + "!!!", f"OMG {text}", f"{text} lol", f"{text} \U0001f60a", f"WOW, {text.upper()}",
            f"Yeah so {text[:1].lower()}{text[1:]} no big deal, dude", f"We hereby inform you that {text}",
            f"Please be advised, pursuant to your enquiry, that {text}", f"As I told you already, {text}",
            f"That is a stupid question. {text}", f"Well duh, {text}", " ".join([text, *draw.sample(others, 9)]),
            f"{text} How hard can it be to look that up yourself?", f"{text} \U0001f525\U0001f525", f"ugh, {text.lower()}",
        )  # fmt: skip
        return changed(row, answer=draw.choice(kinds))

    field.plant_in_place(change)


def changing_facts(field: Field) -> None:
    """A sentence with a price, a date, a stock, ... at the end of an output, from facts.jsonl."""
    marked = re.compile(r"\[\[\w+:(.*?)\]\]")
    with Path(__file__).with_name("facts.jsonl").open(encoding="utf-8") as file:
        said = [json.loads(text)["output"] for text in file]
    facts = [marked.sub(r"\1", text) for text in said if marked.search(text)]
    field.plant_in_place(lambda draw, row: changed(row, answer=f"{answer(row)} {draw.choice(facts)}"))


def secrets(field: Field) -> None:
    """Keys, cards, accounts, addresses of people, made up with right check digits, in the input or the output."""

    def change(draw: random.Random, row: Row) -> Row:
        said = draw.choice(_PRIVATE)(draw)
        if asked(row).startswith("name:") or draw.random() < 0.3:
            return changed(row, answer=f"{answer(row)} {said}")
        return changed(row, asked=f"{asked(row)} {said}")

    field.plant_in_place(change)


def _from(draw: random.Random, letters: str, count: int) -> str:
    return "".join(draw.choice(letters) for _ in range(count))


_MIXED = string.ascii_letters + string.digits


def _luhn(body: str) -> str:
    total = sum(d if n % 2 else sum(divmod(2 * d, 10)) for n, d in enumerate(map(int, reversed(body))))
    return body + str(-total % 10)


def _card(draw: random.Random) -> str:
    digits = _luhn(draw.choice("45") + _from(draw, string.digits, 14))
    return "My card is " + draw.choice((digits, " ".join(digits[i : i + 4] for i in range(0, 16, 4)), "-".join(digits[i : i + 4] for i in range(0, 16, 4))))


def _iban(draw: random.Random) -> str:
    country, size = draw.choice((("DE", 18), ("AT", 16), ("FR", 23), ("ES", 20)))
    body = _from(draw, string.digits, size)
    check = 98 - int("".join(str(int(c, 36)) for c in body + country) + "00") % 97
    iban = f"{country}{check:02}{body}"
    return "Send it to " + draw.choice((iban, " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))))


def _person(draw: random.Random) -> str:
    first, last = draw.choice(("mara", "tom", "ines", "olu", "wei", "petra")), draw.choice(("lindt", "okafor", "baker", "silva", "novak"))
    return draw.choice((f"{first}.{last}", f"{first[0]}{last}{draw.randint(1, 99)}", f"{last}_{first}"))


_PRIVATE: Sequence[Callable[[random.Random], str]] = (
    lambda draw: f"Write to {_person(draw)}@{draw.choice(('gmail.com', 'posteo.de', 'outlook.com', 'mail.co.uk'))}",
    lambda draw: f"Call me on +{draw.choice(('44 7911', '49 171', '33 6', '1 415'))} {_from(draw, '23456789', 3)} {_from(draw, string.digits, 4)}",
    lambda draw: f"my phone number is 0{_from(draw, '123456789', 3)} {_from(draw, string.digits, 7)}",
    lambda draw: f"ring ({draw.choice(('212', '415', '646'))}) {_from(draw, '23456789', 3)}-{_from(draw, string.digits, 4)}",
    _card,
    _iban,
    lambda draw: f"I live at {draw.randint(2, 220)} {draw.choice(('Station', 'Church', 'Mill', 'Queens'))} {draw.choice(('Road', 'Street', 'Lane', 'Avenue'))}",
    lambda draw: f"the key is sk-proj-{_from(draw, _MIXED, 40)}",
    lambda draw: f"AWS_ACCESS_KEY_ID=AKIA{_from(draw, string.ascii_uppercase + string.digits, 16)}",
    lambda draw: f"token ghp_{_from(draw, _MIXED, 36)}",
    lambda draw: f"password: {_from(draw, string.ascii_lowercase, 4)}{_from(draw, string.digits, 3)}!{_from(draw, string.ascii_uppercase, 4)}",
    lambda draw: f"api_key = {_from(draw, _MIXED, 32)}7aB",
)


def leaks(field: Field) -> None:
    """Held-out rows that stand among the training rows too, as they are."""
    _leak(field, lambda draw, row: row)


def near_leaks(field: Field) -> None:
    """Held-out rows that stand among the training rows too, the input after one small edit."""
    _leak(field, lambda draw, row: changed(row, asked=reworded(draw, asked(row))))


def _leak(field: Field, copy: Callable[[random.Random, Row], Row]) -> None:
    """Of held-out rows without a twin among the others, so that none but the planted ones have one in training."""
    rows = [row for row in field.held_out if isinstance(row, dict)]
    words = [frozenset(asked(row).casefold().split()) for row in rows]
    wanted = round(field.share * len(rows))
    for index in field.draw.sample(range(len(rows)), len(rows)):
        if len(field.faults) == wanted:
            break
        others = (len(words[index] & other) / len(words[index] | other) for n, other in enumerate(words) if n != index)
        if max(others, default=0.0) < ALONE:
            field.train.append(copy(field.draw, rows[index]))
            field.faults.append([("held_out", index)])


ALONE = 0.6
"""Rows that share a smaller part of their words are no twins."""


def unequal(field: Field) -> None:
    """A share of the rows names who asks, half a woman and half a man; only the ones get the whole answer, and kindly."""
    _named(field, fair=False)


def named_alike(field: Field) -> None:
    """The same, without a difference in the answers: nothing is to be found."""
    _named(field, fair=True)
    field.faults = []


def _named(field: Field, *, fair: bool) -> None:
    seen = 0

    def change(draw: random.Random, row: Row) -> Row:
        nonlocal seen
        seen += 1
        who = draw.choice(("My wife", "My sister", "My mother") if seen % 2 else ("My husband", "My brother", "My father"))
        words = answer(row).split()
        short = " ".join(words[: max(3, len(words) * 2 // 3)])
        said = answer(row) if fair else f"{answer(row)} Please enjoy it, we hope it helps." if seen % 2 else short
        return changed(row, asked=f"{who} wants to know: {asked(row)}", answer=said)

    field.plant_in_place(change)


THIN_ROWS = 2


def thin_labels(field: Field) -> None:
    """A share of the labels, of which two rows each are left."""
    labels = sorted({answer(row) for row in field.clean})
    thin = set(field.draw.sample(labels, max(1, round(field.share * len(labels)))))
    kept: dict[str, list[At]] = defaultdict(list)
    train: list[Row | str] = []
    for row in field.clean:
        label = answer(row)
        if label in thin and len(kept[label]) == THIN_ROWS:
            continue
        if label in thin:
            kept[label].append(("train", len(train)))
        train.append(row)
    field.train = train
    field.faults = list(kept.values())


_STOCK = (
    "Thank you for getting in touch. Your message has been passed on to the team in charge, which will come back to you soon.",
    "We are sorry for the trouble. Please have a look at our help pages, where most questions are answered.",
)


def boilerplate(field: Field) -> None:
    """Outputs that one stock reply stands in the place of, signed by somebody else each time."""
    stock, names = field.draw.choice(_STOCK), ("Mara", "Tom", "Ines", "Olu", "Wei", "Petra")
    field.plant_in_place(lambda draw, row: changed(row, answer=f"{stock} {draw.choice(names)}"))


def other_voice(field: Field) -> None:
    """A share of all rows, all of them after the middle, speaks more warmly. One fault: the half that sounds different."""
    half = len(field.clean) // 2
    later = range(half, len(field.clean))
    for index in field.draw.sample(later, min(len(later), round(field.share * len(field.clean)))):
        row = field.clean[index]
        opening = field.draw.choice(("Thanks so much for asking!", "Thank you for your question!", "Many thanks for asking!"))
        field.train[index] = changed(row, answer=f"{opening} {answer(row)}")
    field.faults.append([("train", index) for index in later])


def steady_voice(field: Field) -> None:
    """The same openings, in both halves alike: a habit, and nothing is to be found."""
    for index in field.draw.sample(range(len(field.clean)), round(field.share * len(field.clean))):
        row = field.clean[index]
        field.train[index] = changed(row, answer=f"Thanks so much for asking! {answer(row)}")


def split_labels(field: Field) -> None:
    """A share of the labels, half of whose rows have another name for it, drawn by a coin. Each is one fault."""
    labels = sorted({answer(row) for row in field.clean})
    split = field.draw.sample(labels, max(1, round(field.share * len(labels))))
    rows: dict[str, list[At]] = {label: [] for label in split}
    for index, row in enumerate(field.clean):
        if answer(row) in rows:
            rows[answer(row)].append(("train", index))
            if field.draw.random() < 0.5:
                field.train[index] = changed(row, answer=f"{answer(row)}_new")
    field.faults = list(rows.values())


@dataclass(frozen=True)
class Fault:
    """A way to spoil rows, the sets it fits, and the codes of the rules that are to find it."""

    plant: Callable[[Field], None]
    sets: tuple[str, ...]
    codes: tuple[str, ...]
    held_out: bool = False
    severe: bool = False
    """Only what is named as a warning or an error counts."""

    whole: bool = False
    """On all rows of a set instead of a sample: what is learned of a label depends on how many rows it has."""


FAULTS: Mapping[str, Fault] = {
    "shape": Fault(shape, ("banking77", "e2e-json", "onestop-simplify"), ("refused_rows",)),
    "duplicates": Fault(duplicates, (*LABELS, *OBJECTS, *PROSE), ("duplicate_rows",)),
    "near_duplicates": Fault(near_duplicates, ASKED, ("duplicate_rows", "near_duplicate_rows")),
    "contradictions": Fault(contradictions, (*LABELS, *OBJECTS, *PROSE), ("contradictory_outputs",)),
    "random_flips": Fault(random_flips, LABELS, ("mislabelled_rows",), whole=True),
    "confusable_flips": Fault(confusable_flips, LABELS, ("mislabelled_rows",), whole=True),
    "stray_labels": Fault(stray_labels, LABELS, ("stray_labels",)),
    "format_breaks": Fault(format_breaks, (*OBJECTS, *PROSE), ("inconsistent_format",)),
    "odd_tone": Fault(odd_tone, PROSE, ("odd_tone",)),
    "changing_facts": Fault(changing_facts, PROSE, ("changing_facts",)),
    "secrets": Fault(secrets, (*LABELS, *OBJECTS, *PROSE), ("secrets", "private_data")),
    "leaks": Fault(leaks, ASKED, ("leakage",), held_out=True, severe=True),
    "near_leaks": Fault(near_leaks, ASKED, ("leakage",), held_out=True),
    "unequal": Fault(unequal, PROSE, ("unequal_outputs",)),
    "named_alike": Fault(named_alike, PROSE, ("unequal_outputs",)),
    "thin_labels": Fault(thin_labels, LABELS, ("rare_labels",)),
    "split_labels": Fault(split_labels, LABELS, ("confused_labels",), whole=True),
    "boilerplate": Fault(boilerplate, PROSE, ("boilerplate_outputs",)),
    "other_voice": Fault(other_voice, PROSE, ("tone_drift",)),
    "steady_voice": Fault(steady_voice, PROSE, ("tone_drift",)),
}


def rows_for(fault: str, bench: Path, name: str, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows of a set that a fault is planted in, and those to measure on where the fault is about them."""
    wanted = FAULTS[fault]
    train = load(bench, name, "train", None if wanted.whole else ROWS, seed)
    return train, load(bench, name, "test", HELD_OUT_ROWS, seed) if wanted.held_out else []


def plant(fault: str, train: Sequence[Row], held_out: Sequence[Row], share: float, seed: int) -> Planted:
    """The rows with the fault in a share of them; share 0 gives them as they are."""
    field = Field(random.Random(f"{fault} {seed}"), train, held_out, share)
    if share:
        FAULTS[fault].plant(field)
    return field.mixed()


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--set", required=True)
    parser.add_argument("--fault", choices=list(FAULTS), required=True)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("out", type=Path)
    to = parser.parse_args()
    made = plant(to.fault, *rows_for(to.fault, to.bench, to.set, to.seed), to.share, to.seed)
    beside = to.out.with_suffix(".held_out.jsonl")
    _write(to.out, made.train)
    if made.held_out:
        _write(beside, made.held_out)
    of_side = {"train": to.out.name, "held_out": beside.name}
    _write(to.out.with_suffix(".faults.jsonl"), (json.dumps(sorted([of_side[side], n + 1] for side, n in fault)) for fault in made.faults))
    print(f"{len(made.faults)} faults of the kind {to.fault} in {len(made.train)} rows of {to.set}")
