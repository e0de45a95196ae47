"""Follow a short system prompt: a name, a few facts, and one habit of writing."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from starter.corpus import Message
from starter.practice import words as w

PLACES = ("Museum", "Swimming Pool", "Theatre", "Botanical Garden", "Language School", "Boat Club", "Planetarium", "Choir", "Chess Club")

FACTS: dict[str, tuple[Callable[[Random], str], tuple[str, ...], tuple[str, ...]]] = {
    "Opening time": (w.clock, ("When do you open?", "What time can I come in the morning?"), ("We open at {x}.", "You can come in from {x}.")),
    "Closing time": (w.clock, ("When do you close?", "How late are you open?"), ("We close at {x}.", "We are open until {x}.")),
    "Address": (w.address, ("Where are you?", "What is your address?"), ("You find us at {x}.", "Our address is {x}.")),
    "Phone": (w.phone, ("Can I call you?", "What is your phone number?"), ("You can call us at {x}.", "Our number is {x}.")),
    "Closed on": (lambda r: r.choice(w.DAYS), ("On which day are you closed?", "Is there a day you do not open?"), ("We are closed on {x}.", "You cannot visit us on {x}.")),
    "Director": (w.person, ("Who is in charge?", "Who leads it?"), ("{x} is our director.", "It is led by {x}.")),
    "Entry": (lambda r: f"{r.randint(2, 30)} euros", ("What does it cost to come in?", "How much is the entry?"), ("The entry is {x}.", "You pay {x} to come in.")),
    "Founded in": (lambda r: str(r.randint(1820, 2015)), ("How old is it?", "When was it founded?"), ("It was founded in {x}.", "We have been here since {x}.")),
    "Next event": (w.date, ("When is the next event?", "Is anything planned?"), ("The next event is on {x}.", "There is something on {x}.")),
    "Group leader": (w.person, ("Who takes care of groups?", "Whom should our group ask?"), ("Please ask {x}.", "{x} takes care of groups.")),
}

UNKNOWN = ("I do not know that.", "I am sorry, I have no information about that.")


def habit(r: Random, name: str) -> tuple[str, Callable[[str], str]]:
    """An order about how to write, and what it does to an answer."""
    sign, opening = r.choice(("Yours", "Kind regards", "Warmly", "Best")), r.choice(("Good day!", "Welcome!", "Hello there.", "Note:"))
    return r.choice((
        ("Keep answers short.", lambda s: s),
        (f"Sign every answer with \"{sign}, {name}\".", lambda s: f"{s} {sign}, {name}"),
        (f"Begin every answer with \"{opening}\"", lambda s: f"{opening} {s}"),
        ("Write in capital letters.", str.upper),
        ("Write in lower case.", str.lower),
        ("End every answer with a question whether more is needed.", lambda s: f"{s} Is there anything else you need?"),
        ("Put every answer in quotation marks.", lambda s: f"\"{s}\""),
        ("Never use a full stop.", lambda s: s.rstrip(".").replace(".", ",")),
        ("Thank the user first.", lambda s: f"Thank you for asking. {s}"),
    ))


def desk(r: Random) -> list[Message]:
    """A few questions, answered from the facts in the prompt and in the habit it asks for."""
    name, place = r.choice(w.FIRST), f"{w.town(r)} {r.choice(PLACES)}"
    known = r.sample(list(FACTS), r.randint(2, 6))
    values = {fact: FACTS[fact][0](r) for fact in known}
    order, written = habit(r, name)
    who = r.choice((f"You are {name} from the {place}.", f"Your name is {name}. You answer for the {place}.", f"You work at the {place}; your name is {name}."))
    facts = r.choice((" ", "\n")).join(f"{fact}: {x}." for fact, x in values.items())
    turns: list[Message] = [{"role": "system", "content": r.choice((f"{who} {order}\n{facts}", f"{who}\n{facts}\n{order}"))}]
    for _ in range(r.randint(1, 3)):
        asked = r.choice(known) if r.random() < 0.85 else r.choice(list(FACTS))
        _, questions, answers = FACTS[asked]
        answer = r.choice(answers).format(x=values[asked]) if asked in values else UNKNOWN[0]
        turns += [{"role": "user", "content": r.choice(questions)}, {"role": "assistant", "content": written(answer)}]
    return turns


KINDS = (desk,)
