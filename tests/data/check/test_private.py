"""Private data and secrets: found where they are somebody's, replaced by the same stand-in everywhere."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.data.check.finding import Replace
from journeyman.data.check.private import iban_mod_97, luhn, private_in
from journeyman.data.check.rule import Sample, pair
from journeyman.data.check.rules import RULES
from journeyman.data.check.stand_ins import StandIns

RULE = {rule.code: rule for rule in RULES}

PRIVATE = [
    ("Mail mara.lindt@posteo.de now.", "e-mail", "mara.lindt@posteo.de"),
    ("I am on +49 171 5550 8841.", "phone", "+49 171 5550 8841"),
    ("Call me on (415) 731-2299.", "phone", "(415) 731-2299"),
    ("My mobile is 07911 123456", "phone", "07911 123456"),
    ("Card 4539 1488 0343 6467 was refused", "card", "4539 1488 0343 6467"),
    ("IBAN DE75 5121 0800 1245 1261 99.", "IBAN", "DE75 5121 0800 1245 1261 99"),
    ("I live at 14 Mill Lane, Oxford.", "address", "14 Mill Lane"),
    ("Lindenstraße 12, 10969 Berlin", "address", "Lindenstraße 12"),
    ("the password is hunter2Zx!9q", "password", "hunter2Zx!9q"),
    ("key sk-proj-" + "q7Zt2mXv9LbR4cWn8HsK1d", "secret", "sk-proj-" + "q7Zt2mXv9LbR4cWn8HsK1d"),
    ("AKIA" + "Q7ZT2MXV9LBR4CWN", "secret", "AKIA" + "Q7ZT2MXV9LBR4CWN"),
]


@pytest.mark.parametrize(("text", "kind", "value"), PRIVATE)
def test_what_is_private_is_found_and_its_stand_in_is_not(text: str, kind: str, value: str) -> None:
    (found,) = private_in(text)
    assert (found.kind, found.text) == (kind, value)
    stand_in = StandIns().stand_in(found)
    assert stand_in != value
    assert private_in(text.replace(value, stand_in)) == []


@pytest.mark.parametrize(
    "text",
    [
        "name@example.com, info@shop.com, support@shop.com, you@domain.com",
        "Order 20-118834, HR-20418, parcel 00340434161094042557, ISBN 978-3-16-148410-0",
        "Test with 4242 4242 4242 4242 or DE89 3704 0044 0532 0130 00.",
        "Card 4539 1488 0343 6468 has a wrong last digit, DE76 5121 0800 1245 1261 99 too.",
        "Call 112, or 555-0123 in the film, or +44 7700 900123.",
        "The token is expired-token; my password is forgotten.",
        "export API_KEY=your-api-key-here, AWS shows AKIAIOSFODNN7EXAMPLE",
        "On 3 May, from 2019-2024, 1998 people came; it costs 1,299.00.",
        "",
    ],
)
def test_what_belongs_to_nobody_is_not_private(text: str) -> None:
    assert private_in(text) == []


def test_check_digits() -> None:
    assert luhn("4539148803436467") and not luhn("4539148803436468")
    assert iban_mod_97("DE75512108001245126199") == 1 and iban_mod_97("DE76512108001245126199") != 1


def test_the_same_value_has_the_same_stand_in_in_every_row() -> None:
    rows = Sample(
        [
            pair("I am mara.lindt@posteo.de, +49 171 5550 8841", "We write to mara.lindt@posteo.de."),
            pair("And I am Jo, jo.h@gmx.net", "Hello Jo."),
            pair("Did you write to Mara.Lindt@posteo.de? Call +491715550 8841", "We did."),
        ]
    ).rows()
    (finding,) = RULE["private_data"].find(rows)
    mends = [row.mend for row in finding.rows]
    assert all(isinstance(mend, Replace) for mend in mends)
    first, second, third = [dict(mend.pairs) for mend in mends if isinstance(mend, Replace)]
    assert first["mara.lindt@posteo.de"] == third["Mara.Lindt@posteo.de"] == "person1@example.com"
    assert second["jo.h@gmx.net"] == "person2@example.com"
    digits = [[c for c in one if c.isdigit()] for one in (first["+49 171 5550 8841"], third["+491715550 8841"])]
    assert digits[0] == digits[1]
    assert finding.numbers["kinds"] == {"e-mail": 3, "phone": 2}
    assert "mara.lindt" not in finding.message + "".join(row.note for row in finding.rows)


def test_a_key_is_an_error_and_what_looks_like_a_password_a_warning() -> None:
    (key,) = RULE["secrets"].find(Sample([pair("ghp_" + "q7Zt2mXv9LbR4cWn8HsK1dq7Zt2mXv9LbR4c", "Revoke it.")]).rows())
    (password,) = RULE["secrets"].find(Sample([pair("the password is hunter2Zx!9q", "Thanks.")]).rows())
    assert (key.severity, password.severity) == ("error", "warning")


@given(st.text(alphabet="0123456789 +-().@aZ:/", max_size=60))
def test_any_text_is_read_and_found_where_it_stands(text: str) -> None:
    found = private_in(text)
    assert all(text[one.start : one.end] == one.text for one in found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    stand_ins = StandIns()
    json.dumps([stand_ins.stand_in(one) for one in found])
