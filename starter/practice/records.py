"""Fill a small JSON object from a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from starter.corpus import Message
from starter.practice import words as w

Maker = Callable[[Random], object]


def one_of(*options: str) -> Maker:
    return lambda r: r.choice(options)


def whole(low: int, high: int) -> Maker:
    return lambda r: r.randint(low, high)


RECORDS: dict[str, tuple[dict[str, Maker], tuple[str, ...]]] = {
    "concert": (
        {"artist": w.person, "hall": w.town, "day": one_of(*w.DAYS), "time": w.clock, "seats": whole(20, 900)},
        ("{artist} plays at {hall} Hall on {day} at {time}; there are {seats} seats.",
         "On {day}, {time}, come to {hall} Hall, where {artist} performs for {seats} listeners.",
         "{seats} seats, {hall} Hall, {day} {time}: {artist}."),
    ),
    "match": (
        {"home": w.town, "away": w.town, "home_goals": whole(0, 9), "away_goals": whole(0, 9)},
        ("{home} met {away} and the match ended {home_goals} to {away_goals}.",
         "{home} {home_goals}, {away} {away_goals}.",
         "The game between {home} and {away} finished {home_goals}-{away_goals}."),
    ),
    "book": (
        {"title": lambda r: f"The {r.choice(w.things(r, 3)).capitalize()} of {w.town(r)}", "author": w.person,
         "year": whole(1890, 2024), "pages": whole(60, 900)},
        ("{author} published \"{title}\" in {year}; it has {pages} pages.",
         "\"{title}\" ({year}, {pages} pages) is by {author}.",
         "In {year} {author} wrote {title}, a book of {pages} pages."),
    ),
    "reading": (
        {"station": w.town, "temperature": whole(-20, 40), "sky": one_of("clear", "cloudy", "rain", "snow", "fog"),
         "wind": whole(0, 90)},
        ("{station} reports {temperature} degrees, {sky}, wind {wind} km/h.",
         "The sky over {station} is {sky}. It is {temperature} degrees with wind at {wind} km/h.",
         "Weather at {station}: {sky}, {temperature} degrees, wind of {wind} km/h."),
    ),
    "person": (
        {"name": w.person, "age": whole(6, 99), "job": lambda r: r.choice(w.THINGS["jobs"].split()), "town": w.town},
        ("{name} is {age} years old and works as a {job} in {town}.",
         "Meet {name}, a {age}-year-old {job} from {town}.",
         "I am {name}, I live in {town}, I am {age} and my job is {job}."),
    ),
    "meeting": (
        {"topic": lambda r: " ".join(w.things(r, 2)), "day": one_of(*w.DAYS), "time": w.clock, "room": w.code, "host": w.person},
        ("{host} calls a meeting about {topic} on {day} at {time} in room {room}.",
         "Room {room}, {day}, {time}: we talk about {topic}. Host: {host}.",
         "We meet on {day} at {time} in room {room}; {host} will lead the talk on {topic}."),
    ),
    "plant": (
        {"plant": lambda r: r.choice(w.THINGS["trees"].split()), "height_cm": whole(5, 900), "bed": w.code, "planted": w.date},
        ("The {plant} in bed {bed} was planted on {planted} and is {height_cm} cm tall.",
         "Bed {bed}: {plant}, {height_cm} cm, planted {planted}.",
         "We planted a {plant} on {planted}. It stands in bed {bed} and measures {height_cm} cm."),
    ),
    "star": (
        {"name": w.invented, "distance": whole(4, 4000), "colour": lambda r: r.choice(w.THINGS["colours"].split()), "seen": w.date},
        ("{name} is a {colour} star {distance} light years away, first seen on {seen}.",
         "On {seen} we first saw {name}, which is {colour} and {distance} light years from us.",
         "Star {name}: {colour}, {distance} light years, first seen {seen}."),
    ),
}

ORDERS = (
    "Return JSON with the keys {keys}.", "Fill this JSON object: {keys}", "Extract {keys} as JSON.",
    "Read the text and answer only with a JSON object that has {keys}.", "Make a {name} record in JSON. Keys: {keys}.",
)


def fill(r: Random) -> list[Message]:
    """Some of a record's fields, in the asked order; a field the text does not give is null."""
    name = r.choice(list(RECORDS))
    makers, sentences = RECORDS[name]
    values = {key: make(r) for key, make in makers.items()}
    text = r.choice(sentences).format(**values)
    keys = r.sample(list(makers), r.randint(2, len(makers)))
    if r.random() < 0.12:
        keys.insert(r.randrange(len(keys) + 1), r.choice(("note", "email", "price", "owner")))
    answer = json.dumps({key: values.get(key) for key in keys}, ensure_ascii=False)
    order = r.choice(ORDERS).format(name=name, keys=", ".join(keys))
    if r.random() < 0.5:
        return [{"role": "system", "content": order}, {"role": "user", "content": text},
                {"role": "assistant", "content": answer}]
    return [{"role": "user", "content": r.choice((f"{order}\n{text}", f"{text}\n\n{order}"))},
            {"role": "assistant", "content": answer}]


def list_of(r: Random) -> list[Message]:
    """A JSON list of what a sentence names."""
    found = w.things(r, r.randint(2, 5)) if r.random() < 0.6 else [w.person(r) for _ in range(r.randint(2, 4))]
    text = f"{', '.join(found[:-1])} and {found[-1]}"
    sentence = r.choice(("We saw {x}.", "In the box there were {x}.", "Today's list: {x}.", "They named {x}.")).format(x=text)
    return [{"role": "user", "content": f"{sentence}\nGive the items as a JSON list."},
            {"role": "assistant", "content": json.dumps(found, ensure_ascii=False)}]


KINDS = (fill, fill, fill, list_of)
