"""Outputs of one input that can't both be right, and those that may."""

import pytest

from journeyman.data.check.disagree import Wording, disagreement

RECORDS = [
    f"name: The Mill {n}\narea: {area}\nfood: fish"
    for n, area in enumerate(["riverside", "city centre", "old harbour"] * 8)
]
WORDING = Wording(frozenset({"riverside", "city", "centre", "fish"}), RECORDS)


def said(area: str) -> str:
    return f"The Mill is a place to eat fish in the {area} and it is open every day."


@pytest.mark.parametrize("other", ["city centre", "old harbour"])
def test_another_value_of_what_is_asked_about_contradicts(other: str) -> None:
    assert disagreement(said("riverside"), said(other), RECORDS[0], WORDING) == f'"riverside" / "{other}"'
    assert disagreement(said(other) + " Yes.", said("riverside") + " Yes.", RECORDS[0].upper(), WORDING)


@pytest.mark.parametrize("other", ["riverbank", "open"])
def test_other_words_for_it_do_not(other: str) -> None:
    assert disagreement(said("riverside"), said(other), RECORDS[0], WORDING) is None


def test_two_values_that_inputs_have_together_do_not() -> None:
    both = Wording(frozenset(), [*RECORDS, "area: riverside and city centre"])
    assert disagreement(said("riverside"), said("city centre"), RECORDS[0], both) is None


def test_what_is_in_neither_or_both_of_the_sides_of_the_input_does_not() -> None:
    assert disagreement(said("old harbour"), said("city centre"), RECORDS[0], WORDING) is None
