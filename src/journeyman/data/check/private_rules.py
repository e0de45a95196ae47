"""The rules about private data and secrets, with the mends that put stand-ins in their place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from journeyman.data.check.finding import Finding, Replace, Severity, masked
from journeyman.data.check.private import Private, PrivateKind, is_invented, is_titled, parts_of, private_in
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.check.stand_ins import StandIns, replacements
from journeyman.records import Example

SHORTEST_NAME_PART = 3
_WORD = re.compile(r"[^\W\d_]+")
Found = tuple[int, list[Private], list[str]]
"""A row by its index, what it holds, and its texts."""


def _texts(example: Example) -> Iterator[str]:
    for message in example.messages:
        yield message.content
        for call in message.tool_calls:
            yield call["function"]["arguments"]


def _found(rows: Rows, kinds: Sequence[PrivateKind]) -> list[Found]:
    """The rows that hold something of these kinds."""
    out: list[Found] = []
    texts = [list(_texts(example)) for example in rows.all]
    wanted = rows.names is not None and "name" in kinds
    names = iter(rows.names([text for of_row in texts for text in of_row]) if wanted and rows.names else ())
    words = {word for of_row in texts for text in of_row for word in _WORD.findall(text) if word.islower()} if wanted else set()
    for index, of_row in enumerate(texts):
        found = {one.text: one for text in of_row for one in private_in(text, kinds, next(names, ()))}
        for one in list(found.values()):
            if one.kind == "address" and any(is_titled(one.text, text) for text in of_row):
                del found[one.text]
        for one in [one for one in found.values() if one.kind == "name"]:
            found |= {part: Private("name", 0, 0, part) for part in _parts_alone(one.text, of_row, words) if part not in found}
        if found:
            out.append((index, list(found.values()), of_row))
    return out


def _parts_alone(name: str, texts: Sequence[str], words: Collection[str]) -> Iterator[str]:
    """The parts of a name of several that stand in the same row without the others ("Mrs Lindt").

    Parts that the rows have as words too (may, will) are left: they need not be the name. In other rows a part alone is
    replaced only where the model says that it is a name there: a first name may be a town's.
    """
    rest = "\n".join(texts).replace(name, "\0")
    parts = parts_of(name).findall(name)
    for part in parts if len(parts) > 1 else ():
        if len(part) >= SHORTEST_NAME_PART and not part.islower() and part.lower() not in words and not is_invented(part):
            yield from (form for form in (part, part.upper()) if re.search(rf"(?<!\w){re.escape(form)}(?!\w)", rest))


def _shown(private: Private) -> str:
    ends = private.kind != "secret" and len(private.text) > 8
    return masked(private.text) + (private.text[-2:] if ends else "")


def _finding(rows: Rows, code: str, what: str, kinds: Sequence[PrivateKind], fix: str) -> Iterator[Finding]:
    found = _found(rows, kinds)
    if not found:
        return
    stand_ins = StandIns()
    counts = Counter(one.kind for _, private, _ in found for one in private)
    shown = []
    for index, private, texts in found:
        note = ", ".join(f"{one.kind} {_shown(one)}" for one in private)
        shown.append(rows.found(index, note, Replace(replacements(private, texts, stand_ins))))
    named = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
    severity: Severity = "error" if counts["secret"] else "warning"
    message = f"{len(found)} row(s) hold {what}: {named}"
    yield Finding(code, severity, message, tuple(shown), fix, {"rows": len(found), "kinds": dict(counts)})


def _private(rows: Rows) -> Iterator[Finding]:
    """Personal data in any turn of a row."""
    fix = "replace it by stand-ins, the same for the same value: `--fix` does"
    yield from _finding(rows, "private_data", "private data", PERSONAL, fix)


def _secrets(rows: Rows) -> Iterator[Finding]:
    """Keys known by their form are certain, and an error; what only looks like a password is a warning."""
    fix = "revoke them: what stood in a file is no secret any more; then take them out: `--fix` does"
    yield from _finding(rows, "secrets", "secrets", ("secret", "password"), fix)


PERSONAL: tuple[PrivateKind, ...] = ("e-mail", "phone", "card", "IBAN", "address", "social security number", "name")

RULES = (
    Rule(
        "secrets",
        "Keys, tokens and passwords",
        "error",
        "a row holds a key or token known by its form, a private key, or a URL with a password in it; a warning where it only looks like a password",
        "A model says what it has learned to anyone who asks in the right way, and the file travels with every job.",
        "revoke it, and take it out; `--fix` writes [SECRET_1] in its place, [PASSWORD_1] in that of a password, also in a URL",
        Sample([pair("My script fails, the key is sk-proj-" + "q7Zt2mXv9LbR4cWn8HsK1d", "Please revoke that key at once.")]),
        _secrets,
    ),
    Rule(
        "private_data",
        "Private data",
        "warning",
        "a row holds an e-mail address, phone number, card number, IBAN, street with a house number, or US social security "
        "number of somebody, or with `--names` a name",
        "A model may repeat it to a stranger, and the law asks for a reason to keep it. Behaviour is learned as well from "
        "a stand-in. A number without a country code is a phone's only beside a word that says so. A song or a shop that is "
        "called like an address is taken for one, unless a word before it says what it is (named, song, title). Not looked "
        "for: other national ids and tax numbers, passports, dates of birth, account numbers that are no IBAN, IP addresses.",
        "`--fix` writes stand-ins of the same shape that belong to nobody, the same one for the same value in every row and "
        "every writing of it; a country code, a house number, a town and its postcode stay (a British postcode too becomes a stand-in). Of a name "
        "found, each part is replaced wherever it stands in the same row",
        Sample(
            [
                pair("I'm at mara.lindt@posteo.de or +49 171 5550 8841, call me", "We wrote to mara.lindt@posteo.de just now."),
                pair("Please refund to DE75 5121 0800 1245 1261 99", "We send it to the account you named."),
            ]
        ),
        _private,
    ),
)
