"""Private and secret things in a text: found where they are somebody's, or open something.

Not private: example.com and the like (RFC 2606), shared mailboxes (info@, support@), test cards and IBANs from
documentation, numbers reserved for fiction, any number that fails its check digits, and what stands in for something
private (`stand_ins.py`). Secrets have their own forms in `secret_forms.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from journeyman.data.check.finding import masked, without
from journeyman.data.check.secret_forms import (
    ASSIGNED,
    BOT_TOKEN,
    IN_URL,
    KEYED,
    SECRET,
    any_of,
    is_credential,
    is_key,
    is_random,
    may_be_assigned,
    may_be_key,
    may_be_keyed,
)

PrivateKind = Literal["e-mail", "phone", "card", "IBAN", "address", "social security number", "password", "secret", "name"]
KINDS: tuple[PrivateKind, ...] = ("e-mail", "phone", "card", "IBAN", "address", "social security number", "password", "secret")


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
    for kind, regex, needs, fits in _PATTERNS if _DIGIT.search(text) else _WITHOUT_DIGITS:
        if kind not in kinds or not needs(text):
            continue
        for match in regex.finditer(text):
            start, end = match.span(1) if match.re.groups else match.span()
            if fits(match) and all(end <= other.start or other.end <= start for other in found):
                found.append(Private(kind, start, end, text[start:end]))
    for start, end in names:
        if not is_invented(text[start:end]) and all(end <= other.start or other.end <= start for other in found):
            found.append(Private("name", start, end, text[start:end]))
    return sorted(found, key=lambda one: one.start)


def concealed(value: Any, hidden: Sequence[str] = ()) -> Any:
    """The value with all that is private in its texts masked, and what is hidden: for what is shown, or stored as a record."""
    if isinstance(value, str):
        text = without(value, hidden)
        for one in reversed(private_in(text)):
            text = text[: one.start] + masked(one.text) + text[one.end :]
        return text
    if isinstance(value, Mapping):
        return {key: concealed(child, hidden) for key, child in value.items()}
    return [concealed(child, hidden) for child in value] if isinstance(value, list) else value


def _before(match: re.Match[str], characters: int = 30) -> str:
    return match.string[max(0, match.start() - characters) : match.start()]


_REFERENCE = re.compile(
    r"(?:order|invoice|ticket|ref\w*|case|article|isbn|issn|tracking|parcel|shipment|bar ?code|ean|gtin|upc|imei|iccid|serial|sku|"
    r"artikel\w*|sendung\w*|bestell\w*|rechnung\w*|commande|facture|pedido|factura|ordine|fattura)(?:[\W_]+\w+){0,2}[\W_]+$",
    re.I,
)
"""Before a number: what numbers things rather than people."""


# ── e-mail ────────────────────────────────────────────────────────────────────────────────────────────────────

_EMAIL = re.compile(r"(?<![\w.+/-])[A-Za-z0-9][\w.+-]*@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,24}\b")
_SHARED_MAILBOX = re.compile(
    r"(?:info|support|help|helpdesk|sales|contact|office|hello|hi|service|services|customer\.?service|no-?reply|donotreply|admin|"
    r"team|press|jobs|careers|billing|orders?|returns?|privacy|security|abuse|postmaster|webmaster|marketing|news|newsletter|git|"
    r"mail|email|enquiries|reception|bookings?|feedback|user|username|name|you|your\.?name|your\.?email|someone|somebody|first\.last)@",
    re.I,
)
_RESERVED_DOMAIN = re.compile(r"@(?:[\w-]+\.)*(?:example\.\w+|(?:\w[\w-]*\.)?(?:example|test|invalid|localhost)|domain\.com|email\.com)$", re.I)  # RFC 2606
_CREDENTIALS_BEFORE = re.compile(r"://[^\s/@]*$")


def _is_personal(match: re.Match[str]) -> bool:
    if _SHARED_MAILBOX.match(match[0]) or _RESERVED_DOMAIN.search(match[0]):
        return False
    return _CREDENTIALS_BEFORE.search(match.string[max(0, match.start() - 100) : match.start()]) is None


# ── phone ─────────────────────────────────────────────────────────────────────────────────────────────────────

_INTERNATIONAL = re.compile(r"(?<![\w+])(?<!\d[ -])(?:\+|00)[1-9](?:[ ./-]?\(?\d\)?){7,13}(?![\w-]|[.,]\d)")
_NORTH_AMERICAN = re.compile(r"(?<![\w+.-])(?:1[ .-])?(?:\([2-9]\d\d\)\s?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}(?![\w-]|[.,]\d)")
_NATIONAL = re.compile(r"(?<![\w+./-])\(?0\d{1,4}\)?(?:[ ./-]{1,3}\d{2,8}){1,5}(?![\w/-]|[.,]\d)|(?<![\w+./-])0\d{9,10}(?![\w-]|[.,]\d)")
_BARE = re.compile(r"(?<![\w+./-])(?<!\d[ -])[1-9]\d{1,4}(?:[ .-]?\d{2,5}){1,4}(?![\w-]|[.,]\d|[ -]\d)")
"""Nine or ten digits and nothing that says phone: Spanish, Polish, Indian, or a North American one in one piece."""

_PHONE_WORDS = (
    "phone|phones|telephone|tel|mobile|cell|cellphone|call|calls|ring|dial|whats ?app|fax|"
    "handy|handynummer|telefon|telefonnummer|rufnummer|mobil|mobilnummer|fon|anrufen|anruf|ruf|rufen|"
    "téléphone|portable|appeler|appelez|appelle|teléfono|móvil|movil|celular|llamar|llame|llámame|"
    "telefono|cellulare|chiamare|chiami|telefoon|telefoonnummer|mobiel|bellen|bel|"
    "telefone|telemóvel|ligar|ligue|telefonu|komórka|komórkowy|zadzwoń|dzwonić"
)
_TOLD_PLAINLY = re.compile(rf"(?<![^\W_])(?:{_PHONE_WORDS}|(?:my|our|his|her|their) number|meine nummer|(?:text|reach) (?:me|us))(?![^\W_])", re.I)
_TOLD_AFTER = re.compile(rf"\W{{0,3}}(?:(?:is|ist|est|es|è|é|jest) (?:\w+ ){{0,2}})?(?:{_PHONE_WORDS})(?![^\W_])", re.I)
_YEARS = re.compile(r"(?:19|20)\d\d[ .-]")
_TOLD = re.compile(rf"(?<![^\W_])(?:{_PHONE_WORDS}|reach|text|number|contact|erreichen|erreichbar|numéro|número|numero|nummer|numer)(?![^\W_])", re.I)
# Ofcom's numbers for drama, the North American 555-01xx, freephone and service numbers.
_FICTION = re.compile(r"^(?:\+?44|0)(?:7700900|1632960|20794600?|113496|161496|8081570|9098790|3069990)|^1?\d{3}55501\d\d$|^1?8(?:00|88|77|66|55)|^0?800|^(?:999|555)0{2,}\d+$")  # fmt: skip
_IS_DATE = re.compile(r"0?[1-9][/ .-]\d{1,2}[/ .-]\d{2,4}$")
_TWO_DIGIT_CODES = frozenset("20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98".split())


def phone_parts(text: str) -> tuple[str, str]:
    """A phone number's digits in two: what only says how to dial it (00, country code, trunk 0), and the number itself.

    The number itself is the same in national and international writing. The length of a country code is as in E.164.
    """
    digits = re.sub(r"\D", "", text)
    exit_code = 0 if text.lstrip("(").startswith("+") else 2 if digits.startswith("00") else None
    if exit_code is None:
        length = 1 if len(digits) == 11 and digits[0] == "1" else 0
    else:
        code = digits[exit_code:]
        length = exit_code + (1 if code[:1] in ("1", "7") else 2 if code[:2] in _TWO_DIGIT_CODES else 3)
    length += digits[length : length + 1] == "0"
    return digits[:length], digits[length:]


def _is_phone(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0]).removeprefix("00")
    # No number begins with two zeros: such a one is a stand-in.
    if not 8 <= len(digits) <= 15 or len(set(digits)) < 4 or _FICTION.search(digits) or phone_parts(match[0])[1].startswith("00"):
        return False
    return _REFERENCE.search(_before(match)) is None


def _is_told(match: re.Match[str]) -> bool:
    """A number without a country in front is one where the words around it say so."""
    around = match.string[max(0, match.start() - 60) : match.end() + 40]
    return _is_phone(match) and _TOLD.search(around) is not None and _IS_DATE.match(match[0]) is None


def _is_told_plainly(match: re.Match[str]) -> bool:
    """A number that might count anything is a phone's where a word for one stands beside it."""
    if not 9 <= sum(c.isdigit() for c in match[0]) <= 10 or not _is_phone(match) or _YEARS.match(match[0]):
        return False
    after = match[0].isdigit() and _TOLD_AFTER.match(match.string, match.end())
    return bool(after) or _TOLD_PLAINLY.search(_before(match, 25)) is not None


# ── card, IBAN, social security number ────────────────────────────────────────────────────────────────────────

_CARD = re.compile(
    r"(?<![\w.+-])(?<!\d[ -])(?:[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}|3[47]\d{2}[ -]?\d{6}[ -]?\d{5})(?![ -]?\d|[\w-]|[.,]\d)"
)
_TEST_CARDS = frozenset(
    ["4242424242424242", "4111111111111111", "4000056655665556", "5555555555554444", "2223003122003222", "5200828282828210", "5105105105105100", "378282246310005", "371449635398431", "6011111111111117", "6011000990139424", "3056930009020004", "36227206271667", "3566002020360505", "4012888888881881", "4000002500003155", "4000000000000002", "4000000000009995", "4222222222222", "371144371144376", "5431111111111111"]
)
"""From the documentation of payment services."""

_CARD_WORD = re.compile(r"card|visa|amex|maestro|credit|debit|karte|carte|tarjeta|carta|kaart|cartão|kart", re.I)


def _is_card(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0])
    if not 13 <= len(digits) <= 19 or digits in _TEST_CARDS or len(set(digits)) <= 2 or not luhn(digits):
        return False
    before = _before(match)
    if _CARD_WORD.search(before):
        return True
    # Without a word for it 13 digits are an EAN, and 15 an IMEI but where American Express begins.
    is_other = len(digits) == 13 or (len(digits) == 15 and digits[:2] not in ("34", "37"))
    return not is_other and _REFERENCE.search(before) is None


def luhn(digits: str) -> bool:
    """Whether the last digit is right for the others (ISO/IEC 7812-1)."""
    doubled = (int(d) if n % 2 == 0 else sum(divmod(2 * int(d), 10)) for n, d in enumerate(reversed(digits)))
    return sum(doubled) % 10 == 0


_IBAN = re.compile(
    r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?!\w)"
    # In small letters only digits may follow the bank's letters: a word after it is none of it.
    r"|(?<!\w)[a-z]{2}\d{2}(?: ?[a-z]{1,4})?(?: ?\d){8,28}(?!\w)"
)
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
    plain = match[0].replace(" ", "").upper()
    length = _IBAN_LENGTHS.get(plain[:2])
    if (length and len(plain) != length) or not 15 <= len(plain) <= 34 or plain in _DOCUMENTED_IBANS:
        return False
    return iban_mod_97(plain) == 1 and (length is not None or match[0].isupper())


def iban_mod_97(iban: str) -> int:
    """The remainder that is 1 for a right IBAN (ISO 13616): the first four moved to the end, letters as 10 to 35."""
    return int("".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])) % 97


# Never given: 000, 666 and 9xx, 00, 0000 (Social Security Administration).
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_SSN_WORD = re.compile(r"\bSSN|social[ _-]security", re.I)


def _is_ssn(match: re.Match[str]) -> bool:
    return _SSN_WORD.search(_before(match, 40)) is not None


# ── address ───────────────────────────────────────────────────────────────────────────────────────────────────

_STREET = r"(?:Street|St\.?|Road|Rd\.?|Avenue|Ave\.?|Lane|Ln\.?|Drive|Court|Square|Terrace|Close|Crescent|Boulevard|Blvd\.?|Gardens|Grove|Hill|Row|Mews|Quay|Parade|Place)"
_PROPER = r"[A-ZÀ-ÖØ-Þ][\w'’-]+"
_ADDRESS = re.compile(
    rf"(?<![\w./-])(?:(?:Flat|Apt\.?|Unit|Apartment) \w{{1,4}},? )?\d{{1,5}}[a-zA-Z]?,? (?:{_PROPER} ){{1,3}}{_STREET}(?!\w)"
    r"|(?<!\w)[A-ZÄÖÜ][\wäöüß-]{2,}(?:straße|strasse|str\.|gasse|weg|allee|platz|ufer|damm) \d{1,4}[a-z]?\b"
    r"|(?<!\w)[A-ZÄÖÜ][\wäöüß-]{2,} (?:Straße|Strasse|Str\.|Allee) \d{1,4}[a-z]?\b"
    r"|(?<![\w./-])\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|quai|via|calle|chemin|impasse) (?:de (?:la |l['’])?|du |des |d['’])?[A-ZÀ-ÖØ-Þ][\w'’-]+(?: [A-ZÀ-Þ][\w'’-]+)*"
)  # fmt: skip
"""Street and house number alone: postcode and town are many people's."""

_STREET_NAME = re.compile(
    r"(?:(?:\d+[a-z]?(?: bis| ter)?,? )?(?:rue|avenue|boulevard|place|quai|via|calle|chemin|impasse) )(?P<romance>.+)"
    r"|(?P<german>\w[\w-]*?)(?P<kind>[ -]?(?:straße|strasse|str\.?|gasse|weg|allee|platz|ufer|damm))(?: \d+[a-z]?)?"
    rf"|(?:(?:Flat|Apt\.?|Unit|Apartment) \w+,? )?(?:\d+[a-z]?,? )?(?P<english>\D+?) (?P<way>{_STREET})",
    re.I,
)
_NO_NAME = re.compile(r"\b(?:Best|Top|Stars?|Million|Billion|Thousand|Hundred|Dozen|Percent|Most|Finest|Greatest|Days?|Hours?|Minutes?|Times)\b")
_TITLED = re.compile(
    r"(?:named|called|titled|entitled|song|track|tune|album|movie|film|book|novel|game|play|playlist|saga|title|\b(?!street|strasse|road|addr)\w*name)[\"'“”‘’:\s\\]{1,6}$", re.I
)
_MEASURED = re.compile(r" ?(?:%|€|km|m|kg|Euro|Meter|Stunden?|Minuten?|Tagen?|Uhr)(?!\w)")
"""After a number that is no house's ("Hinweg 3 Stunden")."""
_WELL_KNOWN = re.compile(r"10,? Downing St|1600 Pennsylvania Ave|221B,? Baker St|Sesame St|\d+ (?:January|February|March|April|May|June|July|August|September|October|November|December)\b")


def street_name(text: str) -> tuple[int, int] | None:
    """Where in a street with or without its number the name itself stands: "Mill" in "14 Mill Lane"."""
    match = _STREET_NAME.fullmatch(text)
    group = match.lastgroup and next(g for g in ("romance", "german", "english") if match[g]) if match else None
    return match.span(group) if match and group else None


def _is_address(match: re.Match[str]) -> bool:
    if _MEASURED.match(match.string, match.end()) or "Example" in match[0] or _WELL_KNOWN.match(match[0]) or _NO_NAME.search(match[0]) or _TITLED.search(_before(match)):
        return False
    name = street_name(match[0])
    return name is None or not is_invented(match[0][slice(*name)])


_POSTCODE = re.compile(r"(?<!\w)[A-Z]{1,2}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}(?!\w)")
"""A British one, which with the house number names one household (Royal Mail's Programmers' Guide has its letters)."""


def is_titled(address: str, text: str) -> bool:
    """Whether the text has this address as the name of something else: of a song, a restaurant."""
    at = text.find(address)
    return at >= 0 and _TITLED.search(text[max(0, at - 30) : at]) is not None


def is_postcode(text: str) -> bool:
    """Whether this part of an address is a British postcode."""
    return _POSTCODE.fullmatch(text) is not None


def _is_of_address(match: re.Match[str]) -> bool:
    return _ADDRESS.search(match.string, max(0, match.start() - 70), match.start()) is not None


_NUMBERED = re.compile(r"\d(?:[a-zA-Z]?,? [A-ZÀ-ÖØ-Þ]|(?: bis| ter)?,? (?:rue|avenue|boulevard|place|quai|via|calle|chemin|impasse) )")
_german_street = any_of("straße strasse str. gasse weg allee platz ufer damm Straße Strasse Str. Allee")


def _may_be_address(text: str) -> bool:
    return _NUMBERED.search(text) is not None or _german_street(text)


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────

INVENTED = (
    "Avalin Bremor Corvane Delith Eskova Farrin Galdor Hestan Ilvane Jorven Kelith Lorvane Maristel Norvin Oskane Pelith Quorra "
    "Rosvane Selmor Torvin Ulvane Vestrin Wendral Xanthor Yelvane Zorith Althane Belvor Cassimor Dorvane Elvrin Fenmor"
).split()
"""Nobody's names, as far as we know; together they name as many people and streets as are needed."""

_NAME_PART = re.compile(r"[^\W\d_a-z][^\W\d_]*(?:['’-][^\W\d_]+)*")
"""A word of a name that begins with a capital: "van" and "de" stay."""

_ANY_PART = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def parts_of(name: str) -> re.Pattern[str]:
    """What a part of this name looks like."""
    return _NAME_PART if _NAME_PART.search(name) else _ANY_PART


def is_invented(text: str) -> bool:
    """Whether all parts of a name are stand-ins."""
    parts = [word for part in parts_of(text).findall(text) for word in re.split(r"['’-]", part)]
    return bool(parts) and all(word.capitalize() in INVENTED for word in parts)


_PATTERNS: tuple[tuple[PrivateKind, re.Pattern[str], Callable[[str], object], Callable[[re.Match[str]], bool]], ...] = (
    ("secret", IN_URL, any_of("://"), is_credential),
    ("secret", SECRET, may_be_key, is_key),
    ("secret", BOT_TOKEN, re.compile(r"\.[\w-]{6,7}\.[\w-]{27}|\d:AA").search, is_key),
    ("secret", KEYED, may_be_keyed, is_key),
    ("password", ASSIGNED, may_be_assigned, is_random),
    ("e-mail", _EMAIL, any_of("@"), _is_personal),
    ("IBAN", _IBAN, re.compile(r"[A-Za-z]{2}\d\d").search, _is_iban),
    ("card", _CARD, re.compile(r"\d{4}.?\d{4,}").search, _is_card),
    ("social security number", _SSN, re.compile(r"\d-\d\d-\d{4}").search, _is_ssn),
    ("phone", _INTERNATIONAL, re.compile(r"\+\d|00\d").search, _is_phone),
    ("phone", _NORTH_AMERICAN, re.compile(r"\d{3}[ .)-]").search, _is_told),
    ("phone", _NATIONAL, re.compile(r"0\d").search, _is_told),
    ("phone", _BARE, re.compile(r"\d\d[ .-]?\d\d").search, _is_told_plainly),
    ("address", _ADDRESS, _may_be_address, _is_address),
    ("address", _POSTCODE, re.compile(r"\d[A-Z]{2}").search, _is_of_address),
)
"""Of each kind what it looks like, what a text must have for it to be worth looking, and what a match must hold to."""

_DIGIT = re.compile(r"\d")
_WITHOUT_DIGITS = tuple(one for one in _PATTERNS if one[1] in (IN_URL, SECRET, _EMAIL))
"""Those that a text without a single digit may have: most texts are such."""
