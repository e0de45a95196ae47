"""Outputs of one input that can't both be right, and those that may."""

import pytest

from journeyman.data.check.disagree import Wording, disagreement, wording

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


PLAIN = wording([], ["Please ask Marit, or write to Jonas.", "We rest in March."])


@pytest.mark.parametrize(
    ("a", "b", "what"),
    [
        ("Hello Anna,\n\nYes, it is oak.", "Hello Anna,\n\nNo, it is not oak, but beech.", "Yes / No"),
        ("Thank you for asking. No, it is gone.", "Hi! Yes, it is here.", "No / Yes"),
        ("Marit can help.", "Ask for Jonas at the counter.", "Marit / Jonas"),
        ("Delivery is free.", "You pay for delivery.", "free / pay"),
    ],
)
def test_the_reason_is_what_the_answers_turn_on(a: str, b: str, what: str) -> None:
    assert disagreement(a, b, "Is it?", PLAIN) == what


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Colours fade in the sun.", "It comes in March."),
        ("It costs the same in EUR.", "Colours differ a little."),
        ("From nine to late we are here.", "Sundays, We think, are quiet."),
    ],
)
def test_the_first_word_of_a_sentence_is_no_name_and_a_currency_is_none(a: str, b: str) -> None:
    assert disagreement(a, b, "?", PLAIN) is None


SOAK = "Soak it in warm water for a while."


@pytest.mark.parametrize("refusal", ["I'm sorry, but I can't help with that.", "Hello,\n\nUnfortunately we are not able to answer this.", "As an assistant, I cannot provide that."])
def test_a_refusal_contradicts_an_answer(refusal: str) -> None:
    what = disagreement(refusal, SOAK, "How do I clean it?", PLAIN)
    assert what and SOAK in what
    assert disagreement(refusal, "I am sorry, I can't tell.", "How do I clean it?", PLAIN) is None


@pytest.mark.parametrize("answer", ["I can help you with that: soak it.", "Soak it; we can't do that for you.", "Wipe it, or write to us if it will not come off."])
def test_a_limit_within_an_answer_is_no_refusal(answer: str) -> None:
    assert disagreement(answer, SOAK, "How do I clean it?", PLAIN) is None
