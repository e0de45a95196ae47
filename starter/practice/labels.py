"""Choose a label from a list in the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from starter.corpus import Message
from starter.practice import words as w

DESKS: dict[str, dict[str, tuple[str, ...]]] = {
    "library": {
        "renew loan": ("Can I keep {thing} book two more weeks?", "I need my loan to run longer.", "Please extend what I borrowed."),
        "lost book": ("I cannot find the book on {thing}s any more.", "The novel I borrowed is gone.", "I left a library book on the tram."),
        "room booking": ("Is the reading room free on {day}?", "We are six people and need a room at {time}.", "Reserve the small room for {name}."),
        "new card": ("How do I join?", "My card is broken, I need another one.", "{name} would like to become a member."),
        "opening hours": ("Are you open on {day}?", "When do you close?", "What time can I come in on {day}?"),
        "donation": ("I have boxes of old books to give you.", "Do you take used atlases?", "We want to hand over our books on {thing}s."),
    },
    "music school": {
        "trial lesson": ("Could my son try the {instrument} once?", "I would like to see how a first lesson feels.", "Is there a trial hour?"),
        "cancel lesson": ("I am ill and cannot come on {day}.", "{name} will miss the lesson at {time}.", "No lesson for us this week, sorry."),
        "rent instrument": ("Do you lend out a {instrument}?", "We do not own a {instrument} yet, can we hire one?", "What does it cost to borrow a {instrument}?"),
        "concert": ("When is the pupils' concert?", "How many seats are there for the show on {day}?", "May grandparents come and listen on {day}?"),
        "teacher": ("Can we have {name} as our teacher?", "I would rather learn from someone else.", "Who teaches the {instrument}?"),
    },
    "allotment society": {
        "water": ("The tap near plot {code} is dry.", "There is no pressure in the hose.", "The pump does not run."),
        "pests": ("Snails have eaten all my {thing}.", "Something is digging under plot {code}.", "There are moths on the cabbage."),
        "free plot": ("Is there a plot for a beginner?", "How long is the waiting list?", "{name} wants a bit of ground to grow {thing}."),
        "shared tools": ("Who has the big rake?", "The mower is broken.", "May I take the wheelbarrow on {day}?"),
        "rent due": ("How much do I owe for plot {code}?", "When must the yearly rent be paid?", "I paid twice for my plot."),
    },
    "observatory": {
        "guided tour": ("We are a class of twenty and want to visit.", "Is there a tour on {day} at {time}?", "Can {name} show us round?"),
        "telescope fault": ("The dome does not turn.", "The mirror looks foggy.", "The mount stops at {time} each night."),
        "observation": ("I saw a bright streak on {day}.", "There was a green light in the north at {time}.", "A new dot near the moon, what is it?"),
        "membership": ("How can I join the society?", "What is the fee for students?", "Please end my membership."),
        "weather": ("Will it be clear tonight?", "Is it too cloudy to look at stars on {day}?", "It is foggy here, do you still open?"),
    },
    "hiking club": {
        "route": ("Which path leads to {town}?", "How long is the walk from {town} to the hut?", "Is the north path steep?"),
        "hut": ("Are there beds left in the hut?", "Can we sleep at the hut on {day}?", "Does the hut have a kitchen?"),
        "gear": ("Do I need crampons?", "Which boots should I wear?", "Can the club lend me a rope?"),
        "injury": ("{name} has twisted an ankle.", "I fell and my hand is bleeding.", "Someone in our group cannot walk."),
        "sign up": ("Put {name} on the list for {day}.", "May I still come along on {day}?", "Two more people want to join the walk."),
    },
    "town office": {
        "street light": ("The lamp in front of number 12 is dark.", "It flickers all night in {town} Road.", "Three lamps are out near the school."),
        "noise": ("They drill at {time} every morning.", "The bar below plays music all night.", "Dogs bark next door without end."),
        "rubbish": ("Nobody emptied our bin on {day}.", "There is a heap of waste by the river.", "When is paper collected?"),
        "permit": ("May I build a shed?", "I need a paper for a street party on {day}.", "What form is there for a new fence?"),
        "passport": ("My passport runs out in spring.", "How long does a new passport take?", "{name} lost an identity card."),
    },
    "radio station": {
        "song request": ("Please play something with a {instrument}.", "Could we hear a slow song for {name}?", "One more by the same band, please."),
        "competition": ("Is the answer {thing}?", "I would like to win the tickets.", "My answer to the riddle is {town}."),
        "traffic": ("There is a jam before {town}.", "A lorry blocks the left lane.", "The bridge is closed since {time}."),
        "praise": ("I love your morning show.", "{name} reads the news so well.", "What a fine programme on {day}!"),
        "criticism": ("You talk too much.", "The sound was awful on {day}.", "Please stop playing that song each hour."),
    },
}

ORDERS = (
    "Classify the message. Answer with one of: {labels}.", "Choose the right label: {labels}", "Labels: {labels}\nReply with the label only.",
    "You sort messages for a {desk}. Possible labels: {labels}. Answer with one label.", "Which of these is it about? {labels}",
    "Pick one category for the text and write nothing else.\n{lines}", "Categories:\n{lines}\nAnswer with the category.",
)

STYLES: tuple[Callable[[str], str], ...] = (
    lambda label: label, lambda label: label.replace(" ", "_"), lambda label: label.replace(" ", "-"),
    lambda label: label.title(), lambda label: label.upper().replace(" ", "_"), lambda label: label.capitalize(),
)


def conversation(r: Random, order: str, text: str, answer: str) -> list[Message]:
    """The order as a system prompt, before the text or after it."""
    if r.random() < 0.55:
        return [{"role": "system", "content": order}, {"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    joined = r.choice((f"{order}\n\n{text}", f"{text}\n\n{order}", f"{order}\nText: {text}"))
    return [{"role": "user", "content": joined}, {"role": "assistant", "content": answer}]


def message(r: Random) -> list[Message]:
    """A message to a desk; the labels are that desk's, sometimes with others among them, in any order and spelling."""
    name = r.choice(list(DESKS))
    desk = DESKS[name]
    right = r.choice(list(desk))
    text = r.choice(desk[right]).format(
        thing=w.things(r, 1)[0], day=r.choice(w.DAYS), time=w.clock(r), name=w.person(r), code=w.code(r), town=w.town(r),
        instrument=r.choice(w.THINGS["instruments"].split()),
    )
    text = r.choice(("", "", "Hello, ", "Good morning. ", "Hi! ", "Excuse me. ")) + text + r.choice(("", "", " Thanks.", f" {w.person(r)}"))
    others = [label for label in desk if label != right]
    if r.random() < 0.4:
        others = [label for other in r.sample(list(DESKS), 2) if other != name for label in DESKS[other]]
    labels = [right, *r.sample(others, r.randint(1, min(5, len(others))))]
    r.shuffle(labels)
    style = r.choice(STYLES)
    shown = [style(label) for label in labels]
    order = r.choice(ORDERS).format(
        labels=r.choice((", ", " / ", "; ")).join(shown), lines="\n".join(f"- {label}" for label in shown), desk=name
    )
    return conversation(r, order, text, style(right))


def kind_of_thing(r: Random) -> list[Message]:
    """What a word is, of a few kinds."""
    kinds = r.sample(list(w.THINGS), r.randint(2, 5))
    right = r.choice(kinds)
    word = r.choice(w.THINGS[right].split())
    style = r.choice(STYLES)
    labels = ", ".join(style(kind) for kind in kinds)
    text = r.choice((word, f"a {word}", f"I am thinking of {word}.", f"{word}?"))
    return conversation(r, r.choice(ORDERS[:3]).format(labels=labels), text, style(right))


def kind_of_value(r: Random) -> list[Message]:
    """What a value looks like: a code, a date, a time, a name, an address."""
    makers = {"name": w.person, "code": w.code, "date": w.date, "time": w.clock, "address": w.address, "phone number": w.phone}
    kinds = r.sample(list(makers), r.randint(2, 5))
    right = r.choice(kinds)
    style = r.choice(STYLES)
    return conversation(
        r, r.choice(ORDERS[:3]).format(labels=", ".join(style(k) for k in kinds)), makers[right](r), style(right)
    )


def mentioned(r: Random, document: str, others: list[str]) -> list[Message] | None:
    """The one label that a real sentence names; the rest come from other documents, so that any word can be a label.

    None when the document has no good sentence.
    """
    sentences = [s for s in re.split(r"(?<=[.!?]) +", document) if 6 <= len(s.split()) <= 30]
    if not sentences:
        return None
    text = r.choice(sentences)
    here = set(re.findall(r"\b[a-z]{4,12}\b", text))
    elsewhere = {word for other in others for word in re.findall(r"\b[a-z]{4,12}\b", other[:600])} - here
    if not here or len(elsewhere) < 7:
        return None
    right = r.choice(sorted(here))
    labels = [right, *r.sample(sorted(elsewhere), r.randint(1, 7))]
    r.shuffle(labels)
    style = r.choice(STYLES)
    shown = [style(label) for label in labels]
    order = r.choice((*ORDERS[:3], *ORDERS[4:])).format(
        labels=r.choice((", ", " / ", "; ")).join(shown), lines="\n".join(f"- {label}" for label in shown)
    )
    return conversation(r, order, text, style(right))


KINDS = (message, message, message, kind_of_thing, kind_of_value)
