import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.grade.score import BadOutputError, NotMeasurableError, Sample
from journeyman.grade.strict_json import parse_json, same_json
from journeyman.grade.template import Template

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def fill(text, output="", **item):
    return Template.parse(text).fill(Sample(output), item)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{item.x}}", "1"),
        ("a {{ item.x }} b {{ item.deep.list[1].k }}", "a 1 b v"),
        ("{{ item['two words'] }}", "w"),
        ("{{ item.deep.list[0] }}", "[1, null]"),
        ("{{ sample.output_text }}", '{"a": {"b": ["é", true]}}'),
        ("{{ sample.output_json.a.b[0] }}", "é"),
        ("{{ sample.output_json.a.b[1] }}", "true"),
        ("}} alone", "}} alone"),
    ],
)
def test_variables(template, expected):
    item = {"x": 1, "deep": {"list": [[1, None], {"k": "v"}]}, "two words": "w"}
    assert fill(template, '{"a": {"b": ["é", true]}}', **item) == expected


@pytest.mark.parametrize("path", ["item.y", "item.x.z", "item.x[0]", "item.list[5]", "item.list.k"])
def test_an_unknown_item_variable_is_not_measurable(path):
    with pytest.raises(NotMeasurableError, match=r"unknown variable"):
        fill("{{ " + path + " }}", x=1, list=[1])


@pytest.mark.parametrize("path", ["output_json.b", "output_json.a[0]", "output_json[0]", "output_tools[0]"])
def test_a_place_the_output_lacks_is_the_outputs_fault(path):
    with pytest.raises(BadOutputError):
        fill("{{ sample." + path + " }}", '{"a": 1}')


@pytest.mark.parametrize(
    "text", ["{{}}", "{{ item }}", "{{ items.x }}", "{{ item.x", "{{ item.x | upper }}", "{{ sample.x }}"]
)
def test_what_is_no_variable_is_refused(text):
    with pytest.raises(ValueError, match=r"variable|closed"):
        Template.parse(text)


@given(st.text(), st.text())
def test_values_are_put_in_as_they_are_and_never_read_as_templates(value, around):
    around = around.replace("{{", "")
    if around.endswith("{"):
        around += " "
    assert fill(around + "{{ item.x }}", x="{{ item.x }}" + value) == around + "{{ item.x }}" + value


@given(json_values)
def test_json_is_read_back(value):
    assert same_json(parse_json(json.dumps(value)), value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NaN",
        "[Infinity]",
        '{"a": 1, "a": 1}',
        "{'a': 1}",
        '{"a": 1} and more',
        "```json\n{}\n```",
        "[" * 100_000,
    ],
)
def test_json_is_read_strictly(text):
    with pytest.raises(ValueError, match="JSON"):
        parse_json(text)


def test_sameness_of_json():
    assert same_json({"a": 1, "b": [1.0]}, {"b": [1], "a": 1.0})
    assert not same_json(True, 1)
    assert not same_json([1, 2], [2, 1])
    assert not same_json({"a": 1}, {"a": 1, "b": None})
    assert not same_json(None, 0)
