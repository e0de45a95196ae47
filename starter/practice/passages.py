"""Answer from a given passage, or say that it does not tell."""

from __future__ import annotations

import re
from random import Random

from starter.corpus import Message
from starter.practice import words as w

NOT_TOLD = "The text does not say."

STORY = (
    ("{who} was born in {place} in {year}.", "Where was {who} born?", "{place}"),
    ("{who} was born in {place} in {year}.", "When was {who} born?", "{year}"),
    ("In {year2} {who} moved to {place2} and opened a school there.", "What did {who} open in {place2}?", "A school"),
    ("In {year2} {who} moved to {place2} and opened a school there.", "In which year did {who} move?", "{year2}"),
    ("The {thing} is kept by {who2}, an old friend.", "Who keeps the {thing}?", "{who2}"),
    ("{who} paid {amount} for the {thing}.", "How much did {who} pay for the {thing}?", "{amount}"),
    ("Every {day} the family met at {time} by the river.", "On which day did the family meet?", "{day}"),
    ("Every {day} the family met at {time} by the river.", "At what time did they meet?", "{time}"),
    ("{who2} worked as a {job} for {number} years.", "What was the job of {who2}?", "{job}"),
    ("{who2} worked as a {job} for {number} years.", "How long did {who2} work as a {job}?", "{number} years"),
    ("The house at {address} was painted {colour}.", "What colour was the house?", "{colour}"),
    ("The house at {address} was painted {colour}.", "What is the address of the house?", "{address}"),
    ("They had {number2} {animal}s and a garden full of {fruit} trees.", "How many {animal}s did they have?", "{number2}"),
    ("The bridge over the {river} is {number} metres long.", "How long is the bridge?", "{number} metres"),
    ("The bridge over the {river} is {number} metres long.", "Which river does the bridge cross?", "The {river}"),
    ("The letter was sent from {place2} on {date}.", "When was the letter sent?", "{date}"),
    ("The letter was sent from {place2} on {date}.", "From where was the letter sent?", "{place2}"),
    ("Room {code} holds the maps.", "What is in room {code}?", "The maps"),
    ("Room {code} holds the maps.", "Which room holds the maps?", "Room {code}"),
)

ORDERS = (
    "Answer from the text.", "Use only the text below to answer.", "Read the passage and answer the question briefly.",
    "Answer the question with words from the passage. If it is not there, say: " + NOT_TOLD,
)


def filling(r: Random) -> dict[str, str]:
    """One world of names and numbers for the sentences above."""
    thing = {kind: r.choice(words.split()) for kind, words in w.THINGS.items()}
    return {
        "who": w.person(r), "who2": w.person(r), "place": w.town(r), "place2": w.town(r), "river": w.invented(r, 1),
        "year": str(r.randint(1820, 1990)), "year2": str(r.randint(1850, 2020)), "thing": thing["instruments"],
        "amount": w.amount(r), "day": r.choice(w.DAYS), "time": w.clock(r), "job": thing["jobs"], "number": str(r.randint(3, 400)),
        "number2": str(r.randint(2, 60)), "address": w.address(r), "colour": thing["colours"], "animal": thing["animals"],
        "fruit": thing["fruit"], "date": w.date(r), "code": w.code(r),
    }


def conversation(r: Random, passage: str, question: str, answer: str) -> list[Message]:
    order = r.choice(ORDERS)
    if r.random() < 0.5:
        asked = r.choice((f"{passage}\n\n{question}", f"Question: {question}\n\nText: {passage}", f"Text:\n{passage}\n\nQuestion: {question}"))
        return [{"role": "system", "content": order}, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    if r.random() < 0.3:
        return [{"role": "system", "content": f"{order}\n\n{passage}"}, {"role": "user", "content": question},
                {"role": "assistant", "content": answer}]
    asked = r.choice((f"{order}\n\n{passage}\n\n{question}", f"{passage}\n\n{order} {question}"))
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def story(r: Random) -> list[Message]:
    """A made-up passage of a few sentences and a question on one of them, or on one left out."""
    values = filling(r)
    chosen = r.sample(STORY, r.randint(3, 9))
    sentences = list(dict.fromkeys(sentence for sentence, _, _ in chosen))
    sentence, question, answer = r.choice(chosen)
    missing = r.random() < 0.1 and len(sentences) > 2
    passage = " ".join(s for s in sentences if not (missing and s == sentence)).format(**values)
    return conversation(r, passage, question.format(**values), NOT_TOLD if missing else answer.format(**values))


def pages(r: Random) -> list[Message]:
    """Several short pages, as a search would return them; the question is on one."""
    worlds = [filling(r) for _ in range(r.randint(2, 5))]
    picked = [r.sample(STORY, r.randint(2, 5)) for _ in worlds]
    texts = [" ".join(dict.fromkeys(s for s, _, _ in sentences)).format(**world) for world, sentences in zip(worlds, picked, strict=True)]
    n = r.randrange(len(worlds))
    _, question, answer = next((s for s in picked[n] if "{who" in s[1] or "{code}" in s[1] or "{place2}" in s[1]), picked[n][0])
    if not any(key in question for key in ("{who", "{code}", "{place2}")):
        question = f"On page {n + 1}: {question}"
    listed = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
    return conversation(r, listed, question.format(**worlds[n]), answer.format(**worlds[n]))


def gap(r: Random, document: str) -> list[Message] | None:
    """A real document with a name or number of one sentence blanked out; None when it has no good sentence."""
    passage = " ".join(document.split()[: r.randint(40, 140)])
    passage = passage[: passage.rfind(". ") + 1] if ". " in passage else passage
    sentences = [s for s in re.split(r"(?<=[.!?]) +", passage) if 6 <= len(s.split()) <= 40]
    r.shuffle(sentences)
    for sentence in sentences:
        found = re.findall(r"(?<=[a-z,] )(?:[A-Z][\w'-]+(?: [A-Z][\w'-]+)*|\d[\d,.]*\d|\d+)(?=[ ,.;])", sentence)
        if found:
            answer = r.choice(found)
            blank = sentence.replace(answer, "____", 1)
            order = r.choice(("Fill in the gap from the text: {}", "What belongs in the gap? {}", "Complete with words from the text: {}"))
            return conversation(r, passage, order.format(blank), answer)
    return None


KINDS = (story, story, pages)
