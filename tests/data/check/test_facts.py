"""Facts that change: what is one, what only looks like one, and how well they are told apart."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from journeyman.data.check.facts import facts_in
from journeyman.data.check.rule import Rows, Sample, pair
from journeyman.data.check.rules import RULES
from journeyman.records import Example, Message, Place

RULE = next(rule for rule in RULES if rule.code == "changing_facts")
BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "check" / "facts.py"


@pytest.mark.parametrize(
    ("output", "kind", "text"),
    [
        ("The pot is €14.50 today.", "price", "€14.50"),
        ("Das kostet 12,50 Euro.", "price", "12,50 Euro"),
        ("Linen is 20% off.", "price", "20% off"),
        ("We have 3 left.", "stock", "3 left"),
        ("The vase is sold out.", "stock", "sold out"),
        ("It arrives within 5 to 7 working days.", "duration", "within 5 to 7 working days"),
        ("The sale starts on Friday, 4 July.", "date", "Friday, 4 July"),
        ("It is due on 2026-03-31.", "date", "2026-03-31"),
        ("We are open Mon–Fri 9–17.", "hours", "Mon–Fri 9–17"),
        ("The desk closes at 6 pm.", "hours", "at 6 pm"),
        ("It is fixed in version 4.7.2.", "version", "version 4.7.2"),
        ("You need Android 11 or later.", "version", "Android 11 or later"),
        ("Ask our head of returns, Maria Lopez.", "person", "Maria Lopez"),
        ("The club is led by Samuel Adeyemi.", "person", "Samuel Adeyemi"),
        ("See https://shop.test/sizes, please.", "url", "https://shop.test/sizes"),
        ("See shop.com/sizes.", "url", "shop.com/sizes"),
        ("Die Lieferung dauert 3 Werktage.", "duration", "3 Werktage"),
        ("Sie haben 30 Tage Rückgaberecht.", "duration", "30 Tage"),
        ("Livraison sous 3 à 5 jours ouvrés.", "duration", "3 à 5 jours ouvrés"),
        ("El envío tarda 3 días hábiles.", "duration", "3 días hábiles"),
        ("Wir öffnen um 9 Uhr.", "hours", "9 Uhr"),
        ("Auf alles 20 % Rabatt.", "price", "20 % Rabatt"),
        ("Sie beginnt am 4. Juli.", "date", "4. Juli"),
        ("Die Vase ist ausverkauft.", "stock", "ausverkauft"),
    ],
)
def test_a_fact_is_found_with_its_kind(output: str, kind: str, text: str) -> None:
    (fact,) = facts_in(output)
    assert (fact.kind, fact.text) == (kind, text)
    assert output[fact.start : fact.end] == text


@pytest.mark.parametrize(
    "output",
    [
        "The blanket is 100% wool and weighs 5 pounds.",
        "Bake it for 30 minutes at 200 degrees.",
        "Take 500 mg every 6 hours for 5 days.",
        "Jane Austen was born on 16 December 1775.",
        "The TX-450 speaks TLS 1.2.",
        "Order HR-20418 has left us.",
        "Turn left; it is free of charge.",
        "Write to name@example.com or open https://example.com/page.",
        "The ward is staffed 24 hours a day.",
        "Emma is by Jane Austen.",
        "Der Teig ruht 3 Tage im Kühlen.",
        "Er wurde am 16. Dezember 1775 geboren.",
        "",
    ],
)
def test_what_stays_is_not_a_fact_that_changes(output: str) -> None:
    assert facts_in(output) == []


def test_what_the_input_says_is_repeated_and_not_learned() -> None:
    output = "I have moved your table on 12 May to 19:30."
    assert {fact.kind for fact in facts_in(output)} == {"date", "hours"}
    assert facts_in(output, "My table on 12 May, can it be at 19:30?") == []
    assert [fact.kind for fact in facts_in("12 of 120 left: 120 euros.", "120?")] == []


def test_what_the_output_works_out_is_not_learned_and_what_it_works_with_is() -> None:
    asked = "Tom has 50 stamps and gives 12 to Ann. How many are left?"
    assert facts_in("Tom has 50 - 12 = 38 stamps left.", asked) == []
    assert [fact.text for fact in facts_in("Tom has 38 stamps left.", asked)] == ["38 stamps left"]
    assert [fact.text for fact in facts_in("2 x €14.50 = €29.00.", "What do 2 mugs cost?")] == ["€14.50"]
    assert [fact.text for fact in facts_in("There are 30 + 8 = 38 left.", "Is it back?")] == ["38 left"], "from nothing that was said"


def test_a_class_in_a_field_of_json_is_no_fact_and_a_value_is() -> None:
    ranges = ["less than £20", "£20-25", "more than £30"]
    rows = [pair(f"place {n}", json.dumps({"name": f"The Mill {n}", "priceRange": ranges[n % 3], "note": f"£{n + 40}.00"})) for n in range(24)]
    (finding,) = RULE.find(Sample(rows).rows())
    assert finding.numbers["rows"] == 24 and finding.numbers["kinds"] == {"price": 24}, "the notes alone"
    bare = [pair(f"place {n}", json.dumps({"name": f"The Mill {n}", "priceRange": ranges[n % 3]})) for n in range(24)]
    assert list(RULE.find(Sample(bare).rows())) == []


def test_what_was_split_off_the_file_is_looked_at_too_and_tool_calls_are_not() -> None:
    priced = list(Sample([pair(f"how much {n}", f"It is €{n}.00.") for n in range(6)]).rows().train)
    (finding,) = RULE.find(Rows(priced[:3], priced[3:4], priced[4:]))
    assert [row.split for row in finding.rows] == ["train"] * 3 + ["validation"] + ["held_out"] * 2
    assert finding.numbers["of"] == 6
    given = Sample([pair("how much", "It is €7.00.")], held_out=[pair("how much is it", "It is €8.00.")]).rows()
    assert [row.split for finding in RULE.find(given) for row in finding.rows] == ["train"], "what is given to measure on is not learned"
    call = {"id": "c", "type": "function", "function": {"name": "pay", "arguments": '{"sum": "€7.00"}'}}
    assert list(RULE.find(Rows([Example((Message("user", "pay"), Message("assistant", tool_calls=(call,))), Place("x", 1))]))) == []


def test_few_are_worth_a_look_and_many_are_a_warning() -> None:
    plain = [pair(f"question {n}", "We will see to it.") for n in range(200)]
    priced = [pair(f"how much {n}", f"It is €{n}.00.") for n in range(1000, 1003)]

    def found(conversations):  # type: ignore[no-untyped-def]
        return list(RULE.find(Sample(conversations).rows()))

    assert found(plain) == []
    (few,), (many,) = found(plain + priced), found(priced)
    assert (few.severity, many.severity) == ("info", "warning")
    assert few.numbers["rows"] == 3 and few.numbers["kinds"] == {"price": 3}
    assert [row.place.line for row in few.rows] == [201, 202, 203]
    assert list(RULE.find(Rows(train=[], held_out=Sample(priced).rows().train))) == []


def test_the_labelled_half_that_was_not_tuned_on() -> None:
    spec = importlib.util.spec_from_file_location("benchmark_facts", BENCHMARK)
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = benchmark
    spec.loader.exec_module(benchmark)
    measured = benchmark.measure("test")
    assert measured["outputs"] + benchmark.measure("dev")["outputs"] == 400
    for unit in ("output", "fact"):
        assert measured[f"{unit}_precision"] >= 0.9
        assert measured[f"{unit}_recall"] >= 0.8
