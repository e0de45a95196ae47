"""Private data and secrets: found where they are somebody's, replaced by the same stand-in everywhere."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.data.check.finding import Replace
from journeyman.data.check.fix import _replaced
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
    ("Rufnummer 0171-5550884", "phone", "0171-5550884"),
    ("0171/5550884 anrufen", "phone", "0171/5550884"),
    ("mon téléphone est 06.12.34.56.78", "phone", "06.12.34.56.78"),
    ("móvil 612 345 678", "phone", "612 345 678"),
    ("komórka 601 234 567", "phone", "601 234 567"),
    ("telefoon 0612345678", "phone", "0612345678"),
    ("mobile 9876543210", "phone", "9876543210"),
    ("4158675309 is my cell", "phone", "4158675309"),
    ('{"phone_number": "01715550884"}', "phone", "01715550884"),
    ("iban de75 5121 0800 1245 1261 99 please", "IBAN", "de75 5121 0800 1245 1261 99"),
    ("jo@müller.de", "e-mail", "jo@müller.de"),
    ("her SSN is 219-09-9999", "social security number", "219-09-9999"),
    ("paid the order by card 4539148803436467", "card", "4539148803436467"),
    ("Berliner Straße 12 b", "address", "Berliner Straße 12"),
    ("12 rue de la Paix, 75002 Paris", "address", "12 rue de la Paix"),
    ('{"street_name": "14 Mill Lane"}', "address", "14 Mill Lane"),
    ("DB_PASSWORD=S3cretPw9", "password", "S3cretPw9"),
]

BODY = "q7Zt2mXv9LbR4cWn8HsK1dPqJ5yGu3Ef0TzVi6Ao7Cx"
HEX = "a1b2c3d4e5f60718" + "293a4b5c6d7e8f90"
KEYS = [
    "sk-proj-" + BODY, "sk-ant-" + "api03-" + BODY, "sk_" + "live_" + BODY[:24], "rk_" + "live_" + BODY[:24], "whsec_" + BODY[:32],
    "ghp_" + BODY[:36], "github_pat_" + "11ABC" + BODY, "glpat-" + BODY[:20], "npm_" + BODY[:36], "pypi-" + "AgEIcHlwaS5vcmc" + BODY,
    "xoxb-" + "1234567890-" + BODY[:24], "https://hooks.slack.com/" + "services/T0AB12CD3/B0EF45GH6/" + BODY[:24],
    "https://discord.com/" + "api/webhooks/123456789012345678/" + BODY + BODY[:20], "MTA" + BODY[:21] + ".GhIjKl." + BODY[:27],
    "123456789" + ":AA" + BODY[:33], "SG." + BODY[:22] + "." + BODY, "SK" + HEX, "AIza" + BODY[:35], "AKIA" + "Q7ZT2MXV9LBR4CWN",
    "hf_" + BODY[:34], "gsk_" + BODY + "abc12345", "r8_" + BODY[:37], "shpat_" + HEX, "dop_v1_" + HEX + HEX,
    "eyJhbGciOiJ9." + "eyJzdWIiOiIx." + BODY, "sk-" + "ab1234567890" + BODY[:20],
    "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----", "-----BEGIN RSA " + "PRIVATE KEY-----",
]  # fmt: skip
NAMED_KEYS = [
    ("aws_secret_access_key=", BODY[:38] + "/+"), ("AWS_SECRET_ACCESS_KEY = ", BODY[:38] + "/+"), ('"SecretAccessKey": "', BODY[:38] + "/+"),
    ("OPENAI_API_KEY=", "sk-" + BODY), ("AccountKey=", (BODY * 2)[:86] + "=="), ("SharedAccessKey=", BODY[:43] + "="),
    ("TWILIO_AUTH_TOKEN=", HEX), ("https://", "bob:" + "pw@"), ("postgres://", "admin:" + "S3cretPw9@"), ("redis://", ":" + "p4ss@"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "key"), [*(("", key) for key in KEYS), *NAMED_KEYS], ids=lambda text: text[:12])
def test_a_key_is_known_by_its_form_or_by_its_name(before: str, key: str) -> None:
    text = f"It says {before}{key}{'db.shop.net/x' if key.endswith('@') else ''}"
    (found,) = private_in(text)
    assert (found.kind, found.text) == ("secret", key)
    assert private_in(text.replace(key, StandIns().stand_in(found))) == []


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
        "<your key>, API_KEY=xxxxxxxxxxxxxxxxxxxx, API_KEY=$OPENAI_API_KEY1, sk-..., sk-your-api-key-goes-here",
        "sk-1234567890" + "abcdefghijklmnop, sk-this-is-a-long-slug-of-words",
        "https://user:password@host/x, postgres://u:${PW}@h/x, https://u:<token>@h/, clone git@github.com:org/repo",
        'book the restaurant named "5 North St", play the song 157 Riverside Avenue, {"entity_name": "157 Riverside Avenue"}',
        "10 Downing Street, a 5 Star Drive, the 100 Best Place, 12 Million Street",
        "barcode 5901234123457, EAN: 5901234123457, 5901234123457, IMEI 490154203237518, order no. 4539148803436467",
        "order 9876543210, call me",
        "It counts 9876543210 of part 219-09-9999; on 12.05.2024 anrufen",
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


def mended(said: str, output: str) -> tuple[str, str]:
    """The pair as `--fix` leaves it."""
    for code in ("secrets", "private_data"):
        for finding in RULE[code].find(Sample([pair(said, output)]).rows()):
            (mend,) = [row.mend for row in finding.rows]
            assert isinstance(mend, Replace)
            said, output = (_replaced(text, mend.pairs) for text in (said, output))
    return said, output


def test_of_an_address_the_street_alone_is_exchanged_so_that_the_pair_stays_true() -> None:
    output = '{"street":"Hauptstraße 10","zip":"10000","city":"Berlin","phone":"+491715550800"}'
    said, output = mended("Hauptstraße 10, 10000 Berlin. Tel. 0171 5550800", output)
    value = json.loads(output)
    assert said == f"{value['street']}, {value['zip']} {value['city']}. Tel. 0000 0000001"
    assert value["street"].endswith("straße 10") and "Haupt" not in said + output
    assert value["phone"] == "+490000000001", "the country code stays, the number is the one in the input"


def test_a_british_postcode_goes_with_its_street() -> None:
    said, output = mended("I live at 14 Mill Lane, Oxford OX1 2JD.", '{"street": "Mill Lane", "number": 14, "postcode": "OX12JD"}')
    street, number, postcode = json.loads(output).values()
    assert said == f"I live at {number} {street}, Oxford {postcode[:3]} {postcode[3:]}."
    assert "Mill" not in said and postcode.startswith("OX1") and postcode != "OX12JD"
    assert mended("OX1 2JD is a code", "It is.") == ("OX1 2JD is a code", "It is."), "alone it is no address"


def test_a_restaurant_that_the_output_says_it_is_stays() -> None:
    rows = ("a table at 5 North St", '{"restaurant_name": "5 North St"}')
    assert mended(*rows) == rows


WRITINGS = {
    "e-mail": ["Mara.Lindt@posteo.de", "mara.lindt@posteo.de", "MARA.LINDT@POSTEO.DE"],
    "phone": ["0171 5550884", "0171/5550884", "+49 171 5550884", "+49 (0)171 5550884", "00491715550884", "491715550884", "(0171) 555 08 84"],
    "American phone": ["(415) 731-2299", "415-731-2299", "+14157312299", "1 415 731 2299", "4157312299"],
    "card": ["4539 1488 0343 6467", "4539148803436467", "4539-1488-0343-6467"],
    "IBAN": ["DE75 5121 0800 1245 1261 99", "DE75512108001245126199", "de75512108001245126199"],
    "street": ["Berliner Straße 5", "Berliner Str. 5", "BERLINER STRASSE 5", "berliner straße 5", "Berliner Straße"],
    "lane": ["14 Mill Lane", "14 mill lane", "14 Mill Ln", "Mill Lane", "14 MILL LANE"],
    "rue": ["12 rue de la Paix", "12, rue de la Paix", "rue de la Paix"],
}
"""The same thing, as it may be written in an input and in an output; the first is found by itself."""


def same(kind: str, text: str) -> str:
    """What a reader would take for one value."""
    if kind.endswith("phone"):
        return "".join(c for c in text if c.isdigit())[-7:]
    plain = "".join(c for c in text.casefold() if c.isalnum())
    return plain.replace("strasse", "str").replace("lane", "ln").strip("0123456789") if kind in ("street", "lane", "rue") else plain


@given(st.sampled_from(sorted(WRITINGS)), st.data(), st.booleans(), st.booleans())
def test_what_the_output_has_from_the_input_it_still_has_after_the_mend(kind: str, data: st.DataObject, as_json: bool, swapped: bool) -> None:
    first, other = WRITINGS[kind][0], data.draw(st.sampled_from(WRITINGS[kind]))
    here, there = (other, first) if swapped else (first, other)
    output = json.dumps({"value": there}, ensure_ascii=False) if as_json else there
    said, answer = mended(f"My phone, card, home is: {here}", output)
    # A phone is compared by its last digits, a street by its name.
    before, after = said.removeprefix("My phone, card, home is: "), json.loads(answer)["value"] if as_json else answer
    assert before != here and after != there
    assert same(kind, before) == same(kind, after) != same(kind, here)
    again = [row.mend for finding in RULE["private_data"].find(Sample([pair(said, answer)]).rows()) for row in finding.rows]
    assert again == [], "a stand-in is not found again"


def test_the_last_digits_of_a_card_and_a_password_out_of_its_url_go_with_them() -> None:
    said, output = mended("Card 4539 1488 0343 6467, order 1646711", '{"last4": "6467"}')
    assert json.loads(output)["last4"] == said.split(",")[0][-4:] != "6467" and said.endswith("order 1646711")
    said, output = mended("psql postgres://admin:" + "S3cretPw9@db.shop.net/x", '{"user": "admin", "password": "S3cretPw9"}')
    assert (said, json.loads(output)) == ("psql postgres://admin:[PASSWORD_1]@db.shop.net/x", {"user": "admin", "password": "[PASSWORD_1]"})


def test_parts_of_an_e_mail_go_with_it() -> None:
    said, output = mended("I'm Mara.Lindt@posteo.de", '{"user": "mara.lindt", "domain": "posteo.de"}')
    assert said == "I'm {user}@{domain}".format(**json.loads(output)) and "indt" not in said
    assert mended("I'm mara@posteo.de", "Hello mara!")[1] == "Hello mara!", "which may be any word"


def test_the_end_of_a_sentence_is_none_of_the_password() -> None:
    assert mended("The password is hunter2Zx!9q.", "hunter2Zx!9q") == ("The password is [PASSWORD_1].", "[PASSWORD_1]")


def test_what_was_not_private_stays_to_the_letter() -> None:
    said, output = mended("Ship 3 chairs to Lindenstraße 12, 10969 Berlin, 4. OG", '{"qty": 3, "nr": "12", "zip": "10969", "floor": 4}')
    assert said.startswith("Ship 3 chairs to ") and said.endswith("straße 12, 10969 Berlin, 4. OG")
    assert json.loads(output) == {"qty": 3, "nr": "12", "zip": "10969", "floor": 4}


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
