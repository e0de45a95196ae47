"""What stands in for private things: of the same shape, belonging to nobody, and the same for the same value everywhere.

A model then learns to copy an address from the input, or to greet a caller by a number, without learning a real one. A
tag such as [EMAIL_1] would be learned too, and said. Secrets alone become tags: not even their shape should be learned.

What the output has copied from the input is the same in both after the mend too, in whatever writing. So only what is
somebody's is exchanged, and the rest stays: a number's country code, a street's kind and house number, postcode and
town. A stand-in is not found again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

from journeyman.data.check.private import (
    INVENTED,
    Private,
    PrivateKind,
    is_postcode,
    luhn,
    parts_of,
    phone_parts,
    street_name,
)

SHORTEST_PHONE = 7
"""Digits that only by chance are a part of another number in the same row."""

SHORTEST_EMAIL_PART = 8
SHORTEST_PASSWORD = 6
"""A shorter one is replaced in its URL alone: it may be a word of the text."""


@dataclass
class StandIns:
    """Gives each private value its stand-in: the same one each time, in the order in which values are met."""

    given: dict[tuple[str, str], int] = field(default_factory=dict)
    numbers: dict[str, Iterator[int]] = field(default_factory=lambda: defaultdict(lambda: count(1)))

    def stand_in(self, private: Private) -> str:
        """What to write instead. Of a name each part has its own, so that somebody's first name alone stays theirs."""
        kind, text = private.kind, private.text
        match kind:
            case "name":
                return parts_of(text).sub(lambda part: _name(part[0], self._number("name", part[0].casefold())), text)
            case "phone":
                return _phone(text, len(phone_parts(text)[1]), self._number(kind, phone_parts(text)[1]))
            case "address" if is_postcode(text):
                return _postcode(text, self._number("postcode", _plain(text)))
            case "address":
                return self._street(text)
            case "secret" if _is_credentials(text):
                user, _, password = text[:-1].partition(":")
                return f"{user}:{self._password(password)}@"
        return _MAKE[kind](text, self._number(kind, _plain(text)))

    def elsewhere(self, private: Private, rest: str) -> Iterator[tuple[str, str]]:
        """Where in the rest of a row the value stands in a writing in which alone it would not be found, and what to write."""
        match private.kind:
            case "e-mail":
                yield from self._email_elsewhere(private, rest)
            case "phone":
                yield from self._digits_elsewhere(private, rest)
            case "card":
                last = re.sub(r"\D", "", private.text)[-4:]
                if last in rest and re.search(rf"(?<![\w-]){last}(?![\w-])", rest):
                    yield last, re.sub(r"\D", "", self.stand_in(private))[-4:]
            case "address" if is_postcode(private.text):
                plain = private.text.replace(" ", "")
                for text in (plain, f"{plain[:-3]} {plain[-3:]}"):
                    if text in rest:
                        yield text, self.stand_in(Private("address", 0, 0, text))
            case "address":
                yield from self._street_elsewhere(private, rest)
            case "secret" if _is_credentials(private.text):
                password = private.text[:-1].partition(":")[2]
                if len(password) >= SHORTEST_PASSWORD and password in rest:
                    yield password, self._password(password)

    def _number(self, kind: str, key: str) -> int:
        if (kind, key) not in self.given:
            self.given[kind, key] = next(self.numbers[kind])
        return self.given[kind, key]

    def _password(self, text: str) -> str:
        return _MAKE["password"](text, self._number("password", _plain(text)))

    def _street(self, text: str) -> str:
        start, end = street_name(text) or (0, len(text))
        return text[:start] + _name(text[start:end], self._number("street", _street_key(text))) + text[end:]

    def _email_elsewhere(self, private: Private, rest: str) -> Iterator[tuple[str, str]]:
        stand_in = self.stand_in(private)
        for part, instead in zip(private.text.split("@"), stand_in.split("@"), strict=True):
            # A short one of letters alone may be a word of the text.
            if part.lower() in rest.lower() and (len(part) >= SHORTEST_EMAIL_PART or not part.isalpha()):
                yield from ((found, instead) for found in set(re.findall(rf"(?<![\w.]){re.escape(part)}(?![\w-])", rest, re.I)))

    def _digits_elsewhere(self, private: Private, rest: str) -> Iterator[tuple[str, str]]:
        own = phone_parts(private.text)[1]
        if len(own) < SHORTEST_PHONE or own not in re.sub(r"\D", "", rest):
            return
        for run in _DIGITS.findall(rest):
            prefix, found, after = re.sub(r"\D", "", run).rpartition(own)
            if found and not after and len(prefix) <= LONGEST_PREFIX:
                yield run, _phone(run, len(own), self._number("phone", own))

    def _street_elsewhere(self, private: Private, rest: str) -> Iterator[tuple[str, str]]:
        span = street_name(private.text)
        name = private.text[slice(*span)] if span else ""
        if not name or name.lower() not in rest.lower():
            return
        words = r"[\s-]+".join(map(re.escape, name.split()))
        way = r"(?:[ -]?(?:straße|strasse|str\.?|gasse|weg|allee|platz|ufer|damm)| \w+\.?)(?!\w)"
        before = r"(?:(?:rue|avenue|boulevard|place|quai|via|calle|chemin|impasse) )?"
        for match in re.finditer(rf"(?<!\w)({before}{words})(?:{way})?", rest, re.I):
            for street in (match[0], match[1]):
                if street_name(street) and _street_key(street) == _street_key(private.text):
                    yield street, self._street(street)


_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d(?:[ ./()-]{0,3}\d){6,17}(?!\w)")
LONGEST_PREFIX = 6
"""Digits before a phone number proper: 00, a country code of up to three, a trunk 0."""


def _plain(text: str) -> str:
    """What makes two spellings one value."""
    return re.sub(r"[\s-]", "", text).casefold()


_WAYS = {"st": "street", "rd": "road", "ave": "avenue", "ln": "lane", "blvd": "boulevard", "str": "strasse"}


def _street_key(text: str) -> str:
    """A street's name and kind, without number and abbreviation."""
    start, end = street_name(text) or (0, len(text))
    kind = re.sub(r"[^a-z]", "", text[end:].casefold())
    return f"{_plain(text[start:end])} {_WAYS.get(kind, kind)}"


def _is_credentials(text: str) -> bool:
    return text.endswith("@") and ":" in text


def _email(text: str, number: int) -> str:
    return f"person{number}@example.com"  # reserved by RFC 2606


def _phone(text: str, own: int, number: int) -> str:
    """The text with its last `own` digits exchanged. No number begins with zeros behind a country code or trunk 0."""
    digits = re.sub(r"\D", "", text)
    return _filled(text, digits[: len(digits) - own] + str(number).zfill(own))


def _card(text: str, number: int) -> str:
    digits = re.sub(r"\D", "", text)
    begin = digits[0] + "000" + str(number).zfill(len(digits) - 5)
    return _filled(text, begin + next(d for d in "0123456789" if not luhn(begin + d)))


def _iban(text: str, number: int) -> str:
    # 00 is never the right pair of check digits: they run from 02 to 98.
    rest = re.sub(r"[A-Za-z]", "0", text[2:])
    return text[:2] + _filled(rest, "00" + str(number).zfill(sum(map(str.isdigit, rest)) - 2))


def _filled(text: str, digits: str) -> str:
    """The text with other digits; what stands between them stays."""
    given = iter(digits)
    return "".join(next(given, "0") if c.isdigit() else c for c in text)


_UNUSED = "CIKMOV"
"""Letters that the end of a British postcode never has."""


def _postcode(text: str, number: int) -> str:
    digit, rest = divmod(number % 360, 36)
    return f"{text[:-3]}{digit}{_UNUSED[rest // 6]}{_UNUSED[rest % 6]}"


def _name(text: str, number: int) -> str:
    part, number = INVENTED[number % len(INVENTED)], number // len(INVENTED)
    whole = f"{part}-{_name('', number)}" if number else part
    return whole.lower() if text.islower() else whole.upper() if text.isupper() and len(text) > 1 else whole


_MAKE: dict[PrivateKind, Callable[[str, int], str]] = {
    "e-mail": _email,
    "card": _card,
    "IBAN": _iban,
    "social security number": lambda text, number: f"000-00-{number:04}",  # area 000 is never given
    "password": lambda text, number: f"[PASSWORD_{number}]",
    "secret": lambda text, number: f"[SECRET_{number}]",
}


def replacements(private: Iterable[Private], texts: Iterable[str], stand_ins: StandIns) -> tuple[tuple[str, str], ...]:
    """What to write for what in the texts of a row, longer ones first: a number may be the beginning of another."""
    pairs = {one.text: stand_ins.stand_in(one) for one in private}
    rest = "\n".join(texts)
    for text in sorted(pairs, key=len, reverse=True):
        rest = rest.replace(text, "\0")
    for one in private:
        for text, stand_in in stand_ins.elsewhere(one, rest):
            pairs.setdefault(text, stand_in)
    return tuple(sorted(pairs.items(), key=lambda pair: -len(pair[0])))
