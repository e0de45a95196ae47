"""A difference between groups is a question, asked only where the rest of the input does not explain it."""

from __future__ import annotations

import random

from journeyman.data.check.finding import Finding
from journeyman.data.check.rule import Conversation, Rows, Sample, pair
from journeyman.data.check.rules import RULES

RULE = next(rule for rule in RULES if rule.code == "unequal_outputs")
THINGS = [f"{colour} {thing}" for thing in ["mug", "lamp", "wick", "rug", "brush", "soap", "kettle", "bowl", "plate"] for colour in ["blue", "red", "green", "old", "new"]]


def ask(rows: list[Conversation]) -> list[Finding]:
    return list(RULE.find(Sample(rows).rows()))


def asked(who: str, thing: str) -> str:
    return f"My {who} has lost the {thing}. What now?"


def test_refusals_that_follow_the_gender_are_a_question() -> None:
    rows = [pair(asked("wife", t), f"Please come in, we are glad to look for the {t} with you.") for t in THINGS]
    rows += [pair(asked("husband", t), f"We can't look for a {t}.") for t in THINGS]
    findings = ask(rows)
    assert findings and all(f.severity == "info" and f.message.startswith("is it meant that") for f in findings)
    no = next(f for f in findings if "says no" in f.message)
    assert no.numbers["groups"] == ["women", "men"] and no.numbers["rows"] == [45, 45]
    assert no.numbers["means"] == [0.0, 1.0] and no.numbers["effect"] < -0.3 and no.numbers["p"] < 0.01
    assert len(no.rows) == 90 and no.rows[0].note == "names women"


def test_labels_are_compared_too() -> None:
    findings = ask([pair(asked("mother" if n % 2 else "father", t), "urgent" if n % 2 else "later") for n, t in enumerate(THINGS * 2)])
    assert any("the label is 'urgent'" in finding.message for finding in findings)


def test_chance_is_no_question() -> None:
    for seed in range(5):
        rng = random.Random(seed)
        outputs = ["We look for it at once.", "We can't look for it now, sorry.", "Thank you, we are glad to look for it in the shop today."]
        assert ask([pair(asked(who, t), rng.choice(outputs)) for t in THINGS for who in ("wife", "husband")]) == []


def test_what_the_rest_of_the_input_explains_is_no_question() -> None:
    rng = random.Random(0)
    rows = []
    for thing in THINGS * 6:
        # Women ask about lamps more often; lamps get long answers, whoever asks.
        who = rng.choice(["wife", "wife", "wife", "husband"]) if "lamp" in thing or "wick" in thing or "rug" in thing else rng.choice(["wife", "husband", "husband", "husband"])
        long = "lamp" in thing or "wick" in thing or "rug" in thing
        rows.append(pair(asked(who, thing), f"It may be under the {thing} box, " + ("so look there, and behind it, and below it, and in the shed" if long else "so look") + " " * rng.randint(0, 1) + "."))
    assert [f for f in ask(rows) if "length" in f.message] == []


def test_few_rows_and_other_words_are_no_question() -> None:
    rows = [pair(asked("wife", t), "Yes, gladly, we look.") for t in THINGS[:15]] + [pair(asked("husband", t), "No.") for t in THINGS[:15]]
    assert ask(rows) == []
    assert ask([pair(f"Shoe polish and turkey for the {t}", "Yes." if n % 2 else "No, we can't.") for n, t in enumerate(THINGS)]) == []


def test_where_a_thing_comes_from_says_nothing_of_a_person() -> None:
    def rows(of_thing: str, of_other: str) -> list[Conversation]:
        return [pair(f"The {t}. {of_thing}", f"Please come in, we are glad to look for the {t} with you.") for t in THINGS] + [pair(f"The {t}. {of_other}", "No.") for t in THINGS]

    assert ask(rows("It had\nfood: Indian", "It had\nfood: French")) == []
    assert ask(rows("I like Indian food.", "I like French food.")) == []
    assert ask(rows("We have\nnationality: Indian", "We have\nnationality: French"))
    assert ask(rows("I am Indian.", "I am French."))


def test_the_rule_s_own_example_is_found_where_a_split_has_taken_rows_away() -> None:
    rows = RULE.example.rows().train
    findings = list(RULE.find(Rows(rows[:34], rows[34:38], rows[38:])))
    assert findings and findings[0].numbers["rows"] == [24, 24]
    assert {row.split for row in findings[0].rows} == {"train", "validation", "held_out"}
