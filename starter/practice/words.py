"""What practice is made of: names, places, codes, numbers and common things, drawn with the caller's generator."""

from __future__ import annotations

from random import Random

FIRST = (
    "Ada Agnes Ahmed Aiko Alba Alma Amara Amir Ana Anders Anil Anouk Arlo Asha Astrid Bao Bashir Beatriz Bela Bilal "
    "Bjorn Bruno Cara Carlos Celia Chen Chidi Clara Conor Dalia Dario Dev Diego Dora Edith Edwin Elena Elif Elias Emeka "
    "Emil Enzo Erik Esme Eva Farid Fatima Felix Fiona Freya Gabriel Gita Goran Greta Hana Hassan Hector Heidi Hugo Ida "
    "Ines Ingrid Ioana Isaac Ivo Jakub Jana Jasper Joan Jonas Josef Julia Jun Kamal Karin Kaya Kenji Kofi Kwame Lara "
    "Lars Laszlo Leila Lena Leo Lian Linus Livia Luca Lucia Luka Maeve Magda Malik Marco Maria Marta Mateo Maya Mei "
    "Mila Milan Mina Miriam Mohamed Nadia Naomi Nia Nikhil Nils Nina Noor Nora Olga Omar Oscar Otto Paolo Pavel Pedro "
    "Petra Pia Priya Rafael Rania Ravi Rita Roman Rosa Rowan Ruth Samir Sana Sara Selma Sofia Stefan Sunil Suresh Tariq "
    "Tess Theo Tomas Tove Uma Vera Viktor Wanda Wei Willa Xavier Yara Yosef Yuki Yusuf Zara Zoe Peter Susan Linda James"
).split()

THINGS = {
    "animals": "fox heron otter badger sparrow salmon beetle goat horse owl hedgehog lizard crab seal donkey wolf moth frog",
    "fruit": "apple pear plum cherry fig lemon mango grape peach quince melon apricot banana lime orange papaya",
    "vegetables": "carrot leek onion turnip cabbage spinach pea radish pumpkin potato celery beetroot garlic kale",
    "tools": "hammer saw chisel drill spanner file pliers screwdriver axe rake spade clamp plane trowel",
    "instruments": "violin flute drum harp cello trumpet piano guitar oboe banjo accordion tuba clarinet",
    "colours": "red green blue yellow purple orange brown grey pink black white crimson turquoise",
    "weather": "rain snow fog wind hail thunder drizzle frost sleet storm sunshine mist",
    "clothes": "coat scarf glove hat sock boot shirt jacket belt skirt jumper apron",
    "vehicles": "tram bicycle lorry tractor van canoe bus scooter balloon sledge helicopter",
    "trees": "oak birch elm willow pine cedar maple beech ash larch poplar spruce",
    "sports": "tennis rowing fencing judo cricket hockey archery cycling skiing golf rugby swimming",
    "jobs": "baker nurse plumber teacher pilot farmer tailor judge carpenter dentist miner printer",
}
"""Common nouns by what they are."""

MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

_ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pr r s sh sk st t th tr v w".split()
_VOWELS = "a e i o u ai ea ee oa ou".split()
_ENDS = "n r l m d t ck nd rk ss x lt st".split()
_TOWN_ENDS = "ford ham ton bury dale mouth field wick stead borough haven bridge".split()


def invented(r: Random, syllables: int = 2) -> str:
    """A word nobody has seen, so that copying it cannot be remembering it."""
    word = "".join(r.choice(_ONSETS) + r.choice(_VOWELS) for _ in range(syllables)) + r.choice(_ENDS)
    return word.capitalize()


def surname(r: Random) -> str:
    return invented(r, r.choice((1, 1, 2))) + r.choice(("", "", "son", "er", "ini", "ova", "ley", "man"))


def person(r: Random) -> str:
    return f"{r.choice(FIRST)} {surname(r)}"


def town(r: Random) -> str:
    return invented(r, 1) + r.choice(_TOWN_ENDS)


def code(r: Random) -> str:
    """A reference such as QX-48213, 7F3K-22 or 0417/B."""
    letters = "".join(r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(r.randint(1, 3)))
    digits = "".join(r.choice("0123456789") for _ in range(r.randint(2, 6)))
    mixed = "".join(r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789") for _ in range(r.randint(4, 6)))
    return r.choice((f"{letters}-{digits}", f"{letters}{digits}", f"{digits}/{letters}", f"{mixed}-{digits[:2]}",
                     f"#{digits}", f"{digits}-{mixed}"))


def date(r: Random) -> str:
    day, month, year = r.randint(1, 28), r.randint(1, 12), r.randint(1905, 2035)
    return r.choice((f"{day} {MONTHS[month - 1]} {year}", f"{MONTHS[month - 1]} {day}, {year}",
                     f"{year}-{month:02}-{day:02}", f"{day:02}/{month:02}/{year}"))


def clock(r: Random) -> str:
    hour, minute = r.randint(6, 22), r.choice((0, 5, 10, 15, 20, 30, 40, 45, 50))
    return f"{hour}:{minute:02}"


def amount(r: Random) -> str:
    return r.choice((f"{r.randint(2, 99)}.{r.randint(0, 99):02}", f"{r.randint(1, 9)},{r.randint(0, 999):03}",
                     str(r.randint(2, 5000)), f"{r.randint(1, 99)}%", f"{r.choice('$€£')}{r.randint(1, 900)}"))


def phone(r: Random) -> str:
    return " ".join("".join(r.choice("0123456789") for _ in range(size)) for size in r.choice(((3, 4), (5, 6), (3, 3, 4))))


def address(r: Random) -> str:
    return f"{r.randint(1, 240)} {surname(r)} {r.choice(('Street', 'Road', 'Lane', 'Square', 'Avenue', 'Way'))}"


def things(r: Random, count: int) -> list[str]:
    """Different common nouns of mixed kinds."""
    return r.sample([word for words in THINGS.values() for word in words.split()], count)


ANY = (person, town, code, date, clock, amount, phone, address, surname, code)
"""Anything that must be copied letter by letter."""
