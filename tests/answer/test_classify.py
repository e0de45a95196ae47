"""Classifiers on the base's hidden states: what does not fit its context costs no other row its label."""

from __future__ import annotations

import pytest

from journeyman.answer.classify import HeadClassifier
from journeyman.errors import RequestError
from journeyman.generate.engine import Engine
from journeyman.generate.sampling import Sampling
from journeyman.records import Example, Message, Place


def rows(*pairs):
    return [
        Example((Message("user", asked), Message("assistant", label)), Place("rows.jsonl", line))
        for line, (asked, label) in enumerate(pairs, 1)
    ]


def test_a_training_row_that_does_not_fit_is_left_out_and_counted(bases):
    engine = Engine(bases("llama"))
    fitting = rows(*((f"{word} {i}", word) for i in range(6) for word in ("parcel", "letter")))
    long = rows(("parcel " * 5000, "parcel"))
    head = HeadClassifier(engine, [*fitting, *long], [*fitting[:2], *long])
    asked = [row.prompt for row in fitting]
    assert head.left_out == 2
    assert head.answers(asked, Sampling()) == HeadClassifier(engine, fitting, fitting[:2]).answers(asked, Sampling())
    with pytest.raises(RequestError, match="this model's context"):
        head.answers([long[0].prompt], Sampling())


def test_where_no_training_row_fits_no_label_is_given(bases):
    long = rows(("parcel " * 5000, "parcel"), ("letter " * 5000, "letter"))
    head = HeadClassifier(Engine(bases("llama")), long, [])
    with pytest.raises(RequestError, match="fit the context"):
        head.answers([rows(("parcel 1", "parcel"))[0].prompt], Sampling())
