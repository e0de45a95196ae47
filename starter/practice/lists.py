"""Make, change and read short lists."""

from __future__ import annotations

from random import Random

from starter.corpus import Message
from starter.practice import words as w

PLACES = ("first", "second", "third", "fourth", "fifth")


def ask(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def items(r: Random, low: int = 3, high: int = 6) -> list[str]:
    count = r.randint(low, high)
    return w.things(r, count) if r.random() < 0.6 else [r.choice((w.person, w.town, w.code))(r) for _ in range(count)]


def shape(r: Random) -> list[Message]:
    """Commas to bullets or numbers, and back."""
    found = items(r)
    forms = {
        "a bulleted list": "\n".join(f"- {x}" for x in found),
        "a numbered list": "\n".join(f"{n}. {x}" for n, x in enumerate(found, 1)),
        "one line with commas": ", ".join(found),
        "one item a line": "\n".join(found),
    }
    have, want = r.sample(list(forms), 2)
    order = r.choice(("Write this as {want}:\n{x}", "Turn into {want}:\n{x}", "{x}\n\nMake this {want}."))
    return ask(order.format(want=want, x=forms[have]), forms[want])


def place(r: Random) -> list[Message]:
    """The item at a place."""
    found = items(r, 3, 5)
    n = r.randrange(len(found))
    name = "last" if n == len(found) - 1 and r.random() < 0.6 else PLACES[n]
    return ask(f"{', '.join(found)}\nWhat is the {name} item?", found[n])


def change(r: Random) -> list[Message]:
    """Without one, with one more, the other way round, or in order."""
    found = items(r, 3, 5)
    line, gone, new = ", ".join(found), r.choice(found), w.things(r, 1)[0]
    return r.choice((
        ask(f"Remove {gone} from this list: {line}", ", ".join(x for x in found if x != gone)),
        ask(f"Add {new} to the end: {line}", f"{line}, {new}"),
        ask(f"Reverse the order: {line}", ", ".join(reversed(found))),
        ask(f"Sort by alphabet: {line}", ", ".join(sorted(found, key=str.lower))),
        ask(f"How many items are there? {line}", str(len(found))),
    ))


def find(r: Random) -> list[Message]:
    """Whether something is in a list, or which ones are of a kind."""
    kind = r.choice(list(w.THINGS))
    inside = r.sample(w.THINGS[kind].split(), r.randint(1, 3))
    others = [x for x in w.things(r, 4) if x not in w.THINGS[kind].split()]
    mixed = r.sample(inside + others, len(inside) + len(others))
    if r.random() < 0.5:
        asked = r.choice(mixed) if r.random() < 0.5 else w.things(r, 1)[0]
        return ask(f"{', '.join(mixed)}\nIs {asked} in the list? Answer yes or no.", "yes" if asked in mixed else "no")
    return ask(f"{', '.join(mixed)}\nWhich of these are {kind}?", ", ".join(x for x in mixed if x in inside))


KINDS = (shape, place, change, find)
