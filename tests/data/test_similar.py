"""What says the same in other words."""

from __future__ import annotations

import pytest

from journeyman.data.similar import all_but_one, short_words, similar

OTHERS = ["How do I wash the wool rug by hand?", "Where has my parcel with the lamp gone?"]


@pytest.mark.parametrize(
    "other",
    [
        "Good morning, I can't find the key of my blue cabinet.",
        "I cannot find the key of my blue cabinet, thanks in advance",
        "hi there, i can not find the key of my blue cabinet. Thank you so much!",
    ],
)
def test_politeness_and_short_forms_do_not_make_another_text(other: str) -> None:
    groups = similar(["I can’t find the key of my blue cabinet", *OTHERS, other]).same
    assert groups == [0, 1, 2, 0]


def test_a_negation_makes_another_text() -> None:
    groups = similar(["I can find the key of my blue cabinet", *OTHERS, "I can't find the key of my blue cabinet"]).same
    assert groups == [0, 1, 2, 3]


def test_short_texts_that_differ_in_one_word_have_a_key_in_common() -> None:
    def share(one: str, other: str) -> bool:
        return not set(all_but_one(short_words(one))).isdisjoint(all_but_one(short_words(other)))

    assert share("where can I buy a lamp", "where can I get a lamp")
    assert share("where can I buy a lamp", "where can I buy a new lamp, please")
    assert not share("where can I buy a lamp", "where do I get a lamp")
    assert not share("buy a lamp", "get a lamp")
