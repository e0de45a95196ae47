"""Copy a name, number or code exactly."""

from __future__ import annotations

from random import Random

from starter.corpus import Message
from starter.practice import words as w

FIELDS = {
    "name": w.person, "town": w.town, "code": w.code, "date": w.date, "time": w.clock, "amount": w.amount,
    "phone number": w.phone, "address": w.address, "reference": w.code, "surname": w.surname, "membership number": w.code,
}

REPEAT = (
    "Repeat exactly: {x}", "Copy this: {x}", "Say {x}", "Write this again, letter by letter: {x}", "{x}\n\nRepeat the line above.",
    "Please echo: {x}", "Give me back this text unchanged.\n{x}",
)

NOTES = (
    "The {field} is {x}.", "{field}: {x}", "Note the {field}, {x}, before you begin.", "Her {field} is {x}, I think.",
    "We wrote down {x} as the {field}.", "Please use {x} as the {field}.", "On the card the {field} says {x}.",
)

ASK = (
    "What is the {field}?", "Give me the {field}.", "Copy the {field}.", "Which {field} is written there?",
    "Return only the {field}.", "{field}?",
)

CONFIRM = (
    "Noted: {x}.", "Thank you. I have written down {x}.", "The {field} is {x}.", "I have {x} as the {field}. Is that right?",
)


def repeat(r: Random) -> list[Message]:
    """The whole line, or a few of them, again."""
    x = r.choice((", ", "\n", "; ")).join(r.choice(w.ANY)(r) for _ in range(r.choice((1, 1, 2, 3))))
    if r.random() < 0.3:
        x = " ".join(w.things(r, r.randint(3, 7)))
    if r.random() < 0.3:
        return [{"role": "system", "content": r.choice(("Repeat what the user writes.", "Echo the user's message exactly."))},
                {"role": "user", "content": x}, {"role": "assistant", "content": x}]
    return [{"role": "user", "content": r.choice(REPEAT).format(x=x)}, {"role": "assistant", "content": x}]


def pick(r: Random) -> list[Message]:
    """One field out of a few sentences."""
    fields = r.sample(list(FIELDS), r.randint(2, 4))
    values = {field: FIELDS[field](r) for field in fields}
    notes = " ".join(r.choice(NOTES).format(field=field, x=x) for field, x in values.items())
    wanted = r.choice(fields)
    question = r.choice(ASK).format(field=wanted)
    if r.random() < 0.4:
        return [{"role": "system", "content": f"Reply with the {wanted} in the message and nothing else."},
                {"role": "user", "content": notes}, {"role": "assistant", "content": values[wanted]}]
    return [{"role": "user", "content": f"{notes}\n{question}"}, {"role": "assistant", "content": values[wanted]}]


def confirm(r: Random) -> list[Message]:
    """The user gives one thing after another; each is confirmed word for word, and recalled at the end."""
    turns: list[Message] = []
    fields = r.sample(list(FIELDS), r.randint(1, 3))
    values = {field: FIELDS[field](r) for field in fields}
    for field, x in values.items():
        turns += [{"role": "user", "content": r.choice(NOTES).format(field=field, x=x)},
                  {"role": "assistant", "content": r.choice(CONFIRM).format(field=field, x=x)}]
    asked = r.choice(fields)
    return [*turns, {"role": "user", "content": r.choice(ASK).format(field=asked)},
            {"role": "assistant", "content": values[asked]}]


KINDS = (repeat, pick, pick, confirm)
