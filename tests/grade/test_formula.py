import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeyman.grade.formula import Formula

numbers = st.floats(-1000, 1000).filter(lambda x: x == 0 or abs(x) > 1e-6)


def value(text, **values):
    return Formula.parse(text, values).value(values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("2 ^ 3 ^ 2", 512),
        ("1 + 2 ^ 2", 5),
        ("-a ^ 2", -0.25),
        ("7 / 2 - 1", 2.5),
        ("min(a, 2, 3) + max(1, a)", 1.5),
        ("abs(-3) + floor(1.9) + ceil(0.1)", 5),
        ("exp(log(a)) + sqrt(4)", 2.5),
        ("min(a)", 0.5),
    ],
)
def test_values(text, expected):
    assert value(text, a=0.5) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a +",
        "b",
        "a ** 2",
        "a % 2",
        "a // 2",
        "a if a else 1",
        "a == 1",
        "'a'",
        "True",
        "[a]",
        "a.real",
        "a[0]",
        "lambda: 1",
        "__import__('os')",
        "min()",
        "sqrt(a, a)",
        "max(*a)",
        "max(a, key=a)",
        "exec(a)",
        "(a := 1)",
        "1j",
        "9" * 400,
        "-" * 499 + "1" + "0",
        "(" * 250 + "1" + ")" * 250,
        "a\0",
    ],
)
def test_nothing_else_is_read(text):
    with pytest.raises(ValueError, match=r"."):
        value(text, a=1)


@pytest.mark.parametrize(
    "text", ["1 / z", "log(z)", "sqrt(0 - 1)", "(0 - 8) ^ 0.5", "9 ^ 9 ^ 9 ^ 9", "exp(1000)", "1e308 * 10"]
)
def test_what_has_no_value_says_so(text):
    with pytest.raises(ValueError, match="has no"):
        value(text, z=0)


@given(numbers, numbers, st.sampled_from("+-*/"))
def test_arithmetic_is_pythons(a, b, operator):
    if operator == "/" and b == 0:
        return
    expected = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else math.nan}[operator]
    assert value(f"a {operator} b", a=a, b=b) == expected
