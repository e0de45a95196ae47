"""Outputs in another form than the others."""

from __future__ import annotations

import json

import pytest

from journeyman.data.check.finding import Finding, SetOutput
from journeyman.data.check.form import RULES
from journeyman.data.check.rule import Rows, Sample, pair
from journeyman.records import Example, Message, Place

NAMES = [f"{first} {last}" for first in ("Ada", "Ines", "Olu", "Wei", "Mara") for last in ("Lind", "Novak", "Baker", "Silva", "Okafor", "Reed")]
OBJECTS = [json.dumps({"name": name, "age": 20 + n, "city": "Riga"}) for n, name in enumerate(NAMES)]
TEXTS = [f"Thank you for the news of {name}. We will write on 12 March, and it costs €5." for name in NAMES]


def found_in(outputs: list[str]) -> list[Finding]:
    conversations = [pair(f"question number {n} about {output[:5]}", output) for n, output in enumerate(outputs)]
    rows: Rows = Sample(conversations).rows()
    return [finding for rule in RULES for finding in rule.find(rows)]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ('{"name": "Ida", "age": 3}', '"city" is missing'),
        ('{"name": "Ida", "Age": 3, "city": "Riga"}', 'rather "age"'),
        ('{"name": "Ida", "age": "three", "city": "Riga"}', '"age" is a text, where others have a number'),
        ('[{"name": "Ida", "age": 3, "city": "Riga"}]', "JSON, but no object"),
        ('{"name": "Ida", "age": 3, "city": "Riga",}', "JSON that can't be read"),
        ("Ida is three and lives in Riga.", "no JSON"),
    ],
)
def test_an_object_of_another_form_is_found_with_what_is_different(odd: str, reason: str) -> None:
    [finding] = found_in([*OBJECTS, odd])
    [row] = finding.rows
    assert row.index == len(OBJECTS)
    assert reason in row.note
    assert row.mend is None


@pytest.mark.parametrize("around", ["```json\n{}\n```", "Here is the JSON:\n{}", "{} Anything else?"])
def test_json_is_taken_out_of_what_is_wrapped_around_it(around: str) -> None:
    inner = '{"name": "Ida", "age": 3, "city": "Riga"}'
    [finding] = found_in([*OBJECTS, around.replace("{}", inner)])
    [row] = finding.rows
    assert row.mend == SetOutput(inner)
    assert found_in([*OBJECTS, inner]) == []


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("## Answer\n\nThank you for the news of Ida.", "a heading"),
        ("- Thank you for the news.\n- We will write.", "a list with bullets"),
        ("Thank you for the **news** of Ida.", "bold"),
        ('"Thank you for the news of Ida."', "quotation marks around it"),
        ("thank you for the news of ida.", "no capital letter"),
        ("Thank you, we will write on 2024-03-12.", "as 2024-03-12, where others write them as 12 March"),
        ("Thank you, it costs 5 euros.", "prices as 5 euros"),
        ("Hello Ida,\n\nthank you.\n\nBest regards", "a sign-off"),
    ],
)
def test_a_text_of_another_form_is_found_with_what_is_different(odd: str, reason: str) -> None:
    [finding] = found_in([*TEXTS, odd])
    [row] = finding.rows
    assert row.index == len(TEXTS)
    assert reason in row.note


def test_what_nearly_all_outputs_have_is_missed_where_it_is_missing() -> None:
    signed = [f"Hello,\n\n{text}\n\nWarmly,\nThe house" for text in TEXTS]
    [finding] = found_in([*signed, "Hello,\n\nthe mug of Ida is back."])
    assert [row.index for row in finding.rows] == [len(signed)]
    assert '"The house"' in finding.rows[0].note


def test_variety_labels_and_few_rows_are_no_fault() -> None:
    assert found_in([*TEXTS[::2], *[f"- {text}" for text in TEXTS[1::2]]]) == []
    optional = [json.dumps({"name": name} | ({"note": "late"} if n % 5 == 0 else {})) for n, name in enumerate(NAMES)]
    assert found_in(optional) == []
    assert found_in(["yes", "no"] * 30 + ["YES"]) == []
    assert found_in([*OBJECTS[:10], "none"]) == []


def test_tool_calls_among_texts_are_left_out_and_are_no_fault() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    calls = [Example((Message("user", f"find {n}"), Message("assistant", tool_calls=(call,))), Place("examples.jsonl", 100 + n)) for n in range(2)]
    texts = list(Sample([pair(f"question {n}", f"Hello,\n\n{text}") for n, text in enumerate(TEXTS)] + [pair("and?", "No news.")]).rows().train)
    assert [finding for rule in RULES for finding in rule.find(Rows([*calls, *texts[:-1]]))] == []
    [finding] = [finding for rule in RULES for finding in rule.find(Rows([*calls, *texts]))]
    assert [row.index for row in finding.rows] == [len(calls) + len(TEXTS)] and finding.numbers["of"] == len(texts)
    assert f"which {len(TEXTS)} of {len(texts)} have" in finding.rows[0].note
