"""Private and secret things in the rows, and stand-ins that keep their shape.

What is found is replaced by something of the same shape that belongs to nobody, and the same value by the same stand-in
in every row: a model then learns to copy an address from the input, or to greet a caller by a number, without learning
a real one. A tag such as [EMAIL_1] would be learned too, and said. Secrets alone become tags: not even their shape
should be learned. A stand-in is not found again.

Not private: example.com and the like (RFC 2606), shared mailboxes (info@, support@), test cards and IBANs from
documentation, numbers reserved for fiction, and any number that fails its check digits.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from journeyman.data.check.finding import Finding, Replace, Severity
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.records import Example

PrivateKind = Literal["e-mail", "phone", "card", "IBAN", "address", "password", "secret", "name"]
KINDS: tuple[PrivateKind, ...] = ("e-mail", "phone", "card", "IBAN", "address", "password", "secret")


@dataclass(frozen=True, slots=True)
class Private:
    """A stretch of text that is somebody's, or that opens something."""

    kind: PrivateKind
    start: int
    end: int
    text: str


def private_in(text: str, kinds: Collection[PrivateKind] = KINDS, names: Sequence[tuple[int, int]] = ()) -> list[Private]:
    """What is private or secret in a text, in its order, none overlapping. `names` are where names of people stand."""
    found: list[Private] = []
    for kind, regex, needs, fits in _PATTERNS:
        if kind not in kinds or not needs(text):
            continue
        for match in regex.finditer(text):
            start, end = match.span(1) if match.re.groups else match.span()
            if fits(match) and all(end <= other.start or other.end <= start for other in found):
                found.append(Private(kind, start, end, text[start:end]))
    for start, end in names:
        if not _is_invented(text[start:end]) and all(end <= other.start or other.end <= start for other in found):
            found.append(Private("name", start, end, text[start:end]))
    return sorted(found, key=lambda one: one.start)


# ── what each kind looks like ─────────────────────────────────────────────────────────────────────────────────

_EMAIL = re.compile(r"(?<![\w.+/-])[A-Za-z0-9][\w.+-]*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b")
_SHARED_MAILBOX = re.compile(
    r"(?:info|support|help|helpdesk|sales|contact|office|hello|hi|service|services|customer\.?service|no-?reply|donotreply|admin|"
    r"team|press|jobs|careers|billing|orders?|returns?|privacy|security|abuse|postmaster|webmaster|marketing|news|newsletter|"
    r"mail|email|enquiries|reception|bookings?|feedback|user|username|name|you|your\.?name|your\.?email|someone|somebody|first\.last)@",
    re.I,
)
_RESERVED_DOMAIN = re.compile(r"@(?:[\w-]+\.)*(?:example\.\w+|(?:\w[\w-]*\.)?(?:example|test|invalid|localhost)|domain\.com|email\.com)$", re.I)  # RFC 2606


def _is_personal(match: re.Match[str]) -> bool:
    return not _SHARED_MAILBOX.match(match[0]) and not _RESERVED_DOMAIN.search(match[0])


_INTERNATIONAL = re.compile(r"(?<![\w+])(?<!\d[ -])(?:\+|00)[1-9](?:[ ./-]?\(?\d\)?){7,13}(?![\w-]|[.,]\d)")
_NORTH_AMERICAN = re.compile(r"(?<![\w+.-])(?:1[ .-])?(?:\([2-9]\d\d\)\s?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}(?![\w-]|[.,]\d)")
_NATIONAL = re.compile(r"(?<![\w+./-])\(?0\d{1,4}\)?(?:[ /-]{1,3}\d{2,8}){1,5}(?![\w/-]|[.,]\d)|(?<![\w+./-])0\d{9,10}(?![\w-]|[.,]\d)")
_TOLD = re.compile(r"\b(?:phone|phones|telephone|tel|mobile|cell|call|calls|ring|reach|text|whats ?app|fax|number|dial|contact|handy|telefon)\b", re.I)
# Ofcom's numbers for drama, the North American 555-01xx, freephone and service numbers, and our own stand-ins.
_FICTION = re.compile(r"^(?:\+?44|0)(?:7700900|1632960|20794600?|113496|161496|8081570|9098790|3069990)|^1?\d{3}55501\d\d$|^1?8(?:00|88|77|66|55)|^0?800|^(?:999|555)0{2,}\d+$")  # fmt: skip


def _is_phone(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0]).removeprefix("00")
    if not 8 <= len(digits) <= 15 or _FICTION.search(digits) or len(set(digits)) < 4:
        return False
    return not re.search(r"(?:order|invoice|ticket|ref\w*|case|article|isbn|tracking)\W+(?:\w+\W+)?$", _before(match), re.I)


def _is_told(match: re.Match[str]) -> bool:
    """A number without a country in front is one where the words around it say so."""
    around = match.string[max(0, match.start() - 60) : match.end() + 40]
    return _is_phone(match) and _TOLD.search(around) is not None and _IS_DATE.match(match[0]) is None


_IS_DATE = re.compile(r"0?[1-9][/ -]\d{1,2}[/ -]\d{2,4}$")


def _before(match: re.Match[str]) -> str:
    return match.string[max(0, match.start() - 30) : match.start()]


_CARD = re.compile(
    r"(?<![\w.+-])(?<!\d[ -])(?:[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}|3[47]\d{2}[ -]?\d{6}[ -]?\d{5})(?![ -]?\d|[\w-]|[.,]\d)"
)
_TEST_CARDS = frozenset(
    ["4242424242424242", "4111111111111111", "4000056655665556", "5555555555554444", "2223003122003222", "5200828282828210", "5105105105105100", "378282246310005", "371449635398431", "6011111111111117", "6011000990139424", "3056930009020004", "36227206271667", "3566002020360505", "4012888888881881", "4000002500003155", "4000000000000002", "4000000000009995", "4222222222222", "371144371144376", "5431111111111111"]
)
"""From the documentation of payment services."""


def _is_card(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0])
    return 13 <= len(digits) <= 19 and digits not in _TEST_CARDS and len(set(digits)) > 2 and luhn(digits)


def luhn(digits: str) -> bool:
    """Whether the last digit is right for the others (ISO/IEC 7812-1)."""
    doubled = (int(d) if n % 2 == 0 else sum(divmod(2 * int(d), 10)) for n, d in enumerate(reversed(digits)))
    return sum(doubled) % 10 == 0


_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?!\w)")
_IBAN_LENGTHS = {
    "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18, "FR": 27,
    "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27,
    "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "SE": 24, "SI": 19, "SK": 24, "TR": 26, "UA": 29, "AE": 23,
    "SA": 24, "IL": 23, "BR": 29,
}  # fmt: skip
"""SWIFT's IBAN registry; other countries are held to the check digits alone."""
_DOCUMENTED_IBANS = frozenset(
    ["DE89370400440532013000", "GB29NWBK60161331926819", "GB82WEST12345698765432", "FR1420041010050500013M02606", "NL91ABNA0417164300", "CH9300762011623852957", "ES9121000418450200051332", "IT60X0542811101000000123456", "AT611904300234573201", "BE68539007547034"]
)


def _is_iban(match: re.Match[str]) -> bool:
    plain = match[0].replace(" ", "")
    length = _IBAN_LENGTHS.get(plain[:2])
    if (length and len(plain) != length) or not 15 <= len(plain) <= 34 or plain in _DOCUMENTED_IBANS:
        return False
    return iban_mod_97(plain) == 1


def iban_mod_97(iban: str) -> int:
    """The remainder that is 1 for a right IBAN (ISO 13616): the first four moved to the end, letters as 10 to 35."""
    return int("".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])) % 97


_STREET = r"(?:Street|St\.?|Road|Rd\.?|Avenue|Ave\.?|Lane|Ln\.?|Drive|Court|Square|Terrace|Close|Crescent|Boulevard|Blvd\.?|Gardens|Grove|Hill|Row|Mews|Quay|Parade|Place)"
_PROPER = r"[A-ZÀ-ÖØ-Þ][\w'’-]+"
_ADDRESS = re.compile(
    rf"(?<![\w./-])(?:(?:Flat|Apt\.?|Unit|Apartment) \w{{1,4}},? )?\d{{1,5}}[a-zA-Z]?,? (?:{_PROPER} ){{1,3}}{_STREET}(?!\w)(?:,? (?:{_PROPER}(?: {_PROPER})?,? )?(?:[A-Z]{{1,2}}\d[A-Z\d]? ?\d[A-Z]{{2}}|[A-Z]{{2}} \d{{5}}|\d{{4,5}})\b)?"
    r"|(?<!\w)[A-ZÄÖÜ][\wäöüß-]{2,}(?:straße|strasse|str\.|gasse|weg|allee|platz|ufer|damm) \d{1,4}[a-z]?\b(?:,? \d{4,5} [A-ZÄÖÜ][\wäöüß]+)?"
    r"|(?<![\w./-])\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|quai|via|calle|chemin|impasse) (?:de (?:la |l['’])?|du |des |d['’])?[A-ZÀ-ÖØ-Þ][\w'’-]+(?: [A-ZÀ-Þ][\w'’-]+)*"
)  # fmt: skip


def _is_address(match: re.Match[str]) -> bool:
    return "Example" not in match[0] and not re.match(r"\d+ (?:January|February|March|April|May|June|July|August|September|October|November|December)\b", match[0])


_SECRET = re.compile(
    r"(?<![\w-])(?:"
    r"sk-(?:proj-|ant-|or-|svcacct-)?[\w-]{20,}|(?:sk|rk)_(?:live|test)_\w{16,}|gh[pousr]_\w{30,}|github_pat_\w{22,}|glpat-[\w-]{20,}|"
    r"xox[abeoprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|AIza[\w-]{35}|ya29\.[\w-]{20,}|hf_[A-Za-z]{30,}|npm_\w{36}|"
    r"pypi-[\w-]{20,}|SG\.[\w-]{16,}\.[\w-]{16,}|dop_v1_[0-9a-f]{64}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}|AGE-SECRET-KEY-1\w{50,}|"
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:[\s\S]{0,8000}?-----END (?:[A-Z]+ )*PRIVATE KEY-----)?)"
)
_ASSIGNED = re.compile(
    r"\b(?:api[ _-]?key|secret(?:[ _-]?key)?|access[ _-]?(?:key|token)|auth[ _-]?token|bearer|token|password|passwd|pwd|passphrase)"
    r"[\"']?\s?(?::|=|\bis\b)?\s?[\"'`]?([^\s\"'`,;<>{}()\[\]]{8,200})",
    re.I,
)
MIN_ENTROPY_BITS = 3.0
"""Per character. English words have less; random letters and digits of 16 characters and more nearly always have more."""


def _is_secret(match: re.Match[str]) -> bool:
    return re.search(r"EXAMPLE|xxxx|\.\.\.|YOUR|your|0000000|1234567890", match[0]) is None


def _is_random(match: re.Match[str]) -> bool:
    value = match[1].rstrip(".!?:")
    kinds = sum(bool(re.search(one, value)) for one in (r"[a-z]", r"[A-Z]", r"\d", r"[^\w]"))
    is_word = re.fullmatch(r"[A-Za-z]?[a-z]+(?:[-_/.][A-Za-z]?[a-z]+)*\d?", value) or "://" in value or "@" in value
    return not is_word and bool(re.search(r"\d", value)) and kinds >= 3 and entropy_bits(value) >= MIN_ENTROPY_BITS and _is_secret(match)


def entropy_bits(text: str) -> float:
    """Shannon's entropy of the characters, in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _any_of(words: str) -> Callable[[str], bool]:
    known = tuple(words.split())
    return lambda text: any(map(text.__contains__, known))


_key_word = _any_of("key secret token bearer pass pwd")
_german_street = _any_of("straße strasse str. gasse weg allee platz ufer damm")
_NUMBERED = re.compile(r"\d(?:[a-zA-Z]?,? [A-ZÀ-ÖØ-Þ]|(?: bis| ter)?,? (?:rue|avenue|boulevard|place|quai|via|calle|chemin|impasse) )")


def _may_be_address(text: str) -> bool:
    return _NUMBERED.search(text) is not None or _german_street(text)


_PATTERNS: tuple[tuple[PrivateKind, re.Pattern[str], Callable[[str], object], Callable[[re.Match[str]], bool]], ...] = (
    ("secret", _SECRET, _any_of("sk- sk_ rk_ ghp_ gho_ ghu_ ghs_ ghr_ _pat_ glpat xox AKIA ASIA AIza ya29 hf_ npm_ pypi- SG. dop_ eyJ AGE- -----B"), _is_secret),
    ("password", _ASSIGNED, lambda text: _key_word(text.casefold()), _is_random),
    ("e-mail", _EMAIL, _any_of("@"), _is_personal),
    ("IBAN", _IBAN, re.compile(r"[A-Z]{2}\d\d").search, _is_iban),
    ("card", _CARD, re.compile(r"\d{4}.?\d{4,}").search, _is_card),
    ("phone", _INTERNATIONAL, re.compile(r"\+\d|00\d").search, _is_phone),
    ("phone", _NORTH_AMERICAN, re.compile(r"\d{3}[ .)-]").search, _is_told),
    ("phone", _NATIONAL, re.compile(r"0\d").search, _is_told),
    ("address", _ADDRESS, _may_be_address, _is_address),
)  # fmt: skip
"""Of each kind what it looks like, what a text must have for it to be worth looking, and what a match must hold to."""


# ── stand-ins ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class StandIns:
    """Gives each private value its stand-in: the same one each time, in the order in which values are met."""

    given: dict[tuple[PrivateKind, str], str] = field(default_factory=dict)
    numbers: dict[PrivateKind, Iterator[int]] = field(default_factory=lambda: defaultdict(lambda: count(1)))

    def stand_in(self, private: Private) -> str:
        """What to write instead. Of a name each part has its own, so that somebody's first name alone stays theirs."""
        if private.kind == "name":
            return _parts_of(private.text).sub(lambda part: self._made("name", part[0].casefold(), part[0]), private.text)
        return self._made(private.kind, _same(private), private.text)

    def _made(self, kind: PrivateKind, key: str, text: str) -> str:
        if (kind, key) not in self.given:
            self.given[kind, key] = str(next(self.numbers[kind]))
        return _MAKE[kind](text, int(self.given[kind, key]))


def _same(private: Private) -> str:
    """What makes two spellings one value: a phone number is its digits."""
    if private.kind in ("phone", "card"):
        return re.sub(r"\D", "", private.text)
    return private.text.replace(" ", "").casefold()


def _email(text: str, number: int) -> str:
    return f"person{number}@example.com"  # reserved by RFC 2606


def _phone(text: str, number: int) -> str:
    # Country code 999 is unassigned (ITU-T E.164), and 555-0xxx is nobody's in North America.
    return _fill(text, "999" if text.startswith("+") else "555", number)


def _card(text: str, number: int) -> str:
    filled = _fill(text, re.sub(r"\D", "", text)[0] + "000", number, spare=1)
    return filled[:-1] + next(d for d in "0123456789" if not luhn(re.sub(r"\D", "", filled[:-1]) + d))


def _iban(text: str, number: int) -> str:
    # 00 is never the right pair of check digits: they run from 02 to 98.
    return text[:2] + _fill(re.sub(r"[A-Z]", "0", text[2:]), "00", number)


def _fill(text: str, begin: str, number: int, *, spare: int = 0) -> str:
    """The text with other digits: `begin`, zeros, the number; what stands between digits stays."""
    places = sum(c.isdigit() for c in text)
    digits = iter(begin + str(number).zfill(places - len(begin) - spare) + "0" * spare)
    return "".join(next(digits, "0") if c.isdigit() else c for c in text)


_NAME_PART = re.compile(r"[^\W\d_a-z][^\W\d_]*(?:['’-][^\W\d_]+)*")
"""A word of a name that begins with a capital: "van" and "de" stay."""

_ANY_PART = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def _parts_of(name: str) -> re.Pattern[str]:
    return _NAME_PART if _NAME_PART.search(name) else _ANY_PART


_INVENTED = (
    "Avalin Bremor Corvane Delith Eskova Farrin Galdor Hestan Ilvane Jorven Kelith Lorvane Maristel Norvin Oskane Pelith Quorra "
    "Rosvane Selmor Torvin Ulvane Vestrin Wendral Xanthor Yelvane Zorith Althane Belvor Cassimor Dorvane Elvrin Fenmor"
).split()
"""Nobody's names, as far as we know; together they name as many people as are needed."""


def _name(text: str, number: int) -> str:
    part, number = _INVENTED[number % len(_INVENTED)], number // len(_INVENTED)
    whole = f"{part}-{_name(part, number)}" if number else part
    return whole.lower() if text.islower() else whole


def _is_invented(text: str) -> bool:
    parts = [word for part in _parts_of(text).findall(text) for word in re.split(r"['’-]", part)]
    return all(word.capitalize() in _INVENTED for word in parts)


_MAKE: dict[PrivateKind, Callable[[str, int], str]] = {
    "e-mail": _email,
    "phone": _phone,
    "card": _card,
    "IBAN": _iban,
    "address": lambda text, number: f"{number} Example Street",
    "name": _name,
    "password": lambda text, number: f"[PASSWORD_{number}]",
    "secret": lambda text, number: f"[SECRET_{number}]",
}


# ── the rules ─────────────────────────────────────────────────────────────────────────────────────────────────


def _texts(example: Example) -> Iterator[str]:
    for message in example.messages:
        yield message.content
        for call in message.tool_calls:
            yield call["function"]["arguments"]


def _found(rows: Rows, kinds: Sequence[PrivateKind]) -> list[tuple[int, list[Private]]]:
    """The rows that hold something of these kinds."""
    out = []
    texts = [list(_texts(example)) for example in rows.all]
    wanted = rows.names is not None and "name" in kinds
    names = iter(rows.names([text for of_row in texts for text in of_row]) if wanted and rows.names else ())
    for index, of_row in enumerate(texts):
        found = {one.text: one for text in of_row for one in private_in(text, kinds, next(names, ()))}
        if found:
            out.append((index, list(found.values())))
    return out


def masked(private: Private) -> str:
    """Enough to recognise it in the file, not enough to use it."""
    return private.text[:3] + "…" + (private.text[-2:] if private.kind != "secret" else "")


def _finding(rows: Rows, code: str, what: str, kinds: Sequence[PrivateKind], fix: str) -> Iterator[Finding]:
    found = _found(rows, kinds)
    if not found:
        return
    stand_ins = StandIns()
    counts = Counter(one.kind for _, private in found for one in private)
    shown = []
    for index, private in found:
        # Longer ones first: a number may be the beginning of another.
        pairs = sorted(((one.text, stand_ins.stand_in(one)) for one in private), key=lambda one: -len(one[0]))
        note = ", ".join(f"{one.kind} {masked(one)}" for one in private)
        shown.append(rows.found(index, note, Replace(tuple(pairs))))
    named = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
    severity: Severity = "error" if counts["secret"] else "warning"
    message = f"{len(found)} row(s) hold {what}: {named}"
    yield Finding(code, severity, message, tuple(shown), fix, {"rows": len(found), "kinds": dict(counts)})


def _private(rows: Rows) -> Iterator[Finding]:
    """Personal data in any turn of a row."""
    fix = "replace it by stand-ins, the same for the same value: `--fix` does"
    yield from _finding(rows, "private_data", "private data", ("e-mail", "phone", "card", "IBAN", "address", "name"), fix)


def _secrets(rows: Rows) -> Iterator[Finding]:
    """Keys known by their form are certain, and an error; what only looks like a password is a warning."""
    fix = "revoke them: what stood in a file is no secret any more; then take them out: `--fix` does"
    yield from _finding(rows, "secrets", "secrets", ("secret", "password"), fix)


RULES = (
    Rule(
        "secrets",
        "Keys, tokens and passwords",
        "error",
        "a row holds a key or token known by its form, or a private key; a warning where it only looks like a password",
        "A model says what it has learned to anyone who asks in the right way, and the file travels with every job.",
        "revoke it, and take it out; `--fix` writes [SECRET_1] in its place",
        Sample([pair("My script fails, the key is sk-proj-" + "q7Zt2mXv9LbR4cWn8HsK1d", "Please revoke that key at once.")]),
        _secrets,
    ),
    Rule(
        "private_data",
        "Private data",
        "warning",
        "a row holds an e-mail address, phone number, card number, IBAN or postal address of somebody, or with `--names` a name",
        "A model may repeat it to a stranger, and the law asks for a reason to keep it. Behaviour is learned as well from "
        "a stand-in.",
        "`--fix` writes stand-ins of the same shape that belong to nobody, the same one for the same value in every row",
        Sample(
            [
                pair("I'm at mara.lindt@posteo.de or +49 171 5550 8841, call me", "We wrote to mara.lindt@posteo.de just now."),
                pair("Please refund to DE75 5121 0800 1245 1261 99", "We send it to the account you named."),
            ]
        ),
        _private,
    ),
)
