import pytest

from journeyman.answer.answerer import Echo, Scripted
from journeyman.answer.prompt import WithInstructions
from journeyman.records import Example, Message, Place

SAMPLING = None  # neither Scripted nor Echo looks at it


def user(text):
    return (Message("user", text),)


def test_scripted_answers_in_turn_and_remembers_what_it_was_asked():
    scripted = Scripted(["one", "two", "three"])
    assert [a.text for a in scripted.answers([user("a"), user("b")], SAMPLING)] == ["one", "two"]
    assert [a.text for a in scripted.answers([user("c")], SAMPLING)] == ["three"]
    assert [turns[0].content for turns in scripted.asked] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="3 answers"):
        scripted.answers([user("d")], SAMPLING)


def test_echo_says_the_last_user_text_and_counts_words():
    turns = (Message("user", "first"), Message("assistant", "yes"), Message("user", "second one"))
    (answer,) = Echo().answers([turns], SAMPLING)
    assert (answer.text, answer.usage.prompt_tokens, answer.usage.completion_tokens) == ("second one", 4, 2)


def test_instructions_and_shots_stand_before_the_conversation():
    shot = Example(
        (Message("system", "old"), Message("user", "q"), Message("assistant", "a")), Place("train", 1)
    )
    inner = Scripted(["ok"])
    prompted = WithInstructions(inner, "Be brief.\n", [shot])
    prompted.answers([user("hello")], SAMPLING)
    assert [(m.role, m.content) for m in inner.asked[0]] == [
        ("system", "Be brief."),
        ("user", "q"),
        ("assistant", "a"),
        ("user", "hello"),
    ]
    assert prompted.name == "scripted + instructions + 1 examples"


def test_a_conversations_own_system_message_is_kept_in_one_system_message():
    prompted = WithInstructions(Echo(), "Be brief.")
    asked = prompted.prompted((Message("developer", "In French."), *user("hello")))
    assert [(m.role, m.content) for m in asked] == [("system", "Be brief.\n\nIn French."), ("user", "hello")]


def test_no_instructions_leave_the_conversation_as_it_is():
    assert WithInstructions(Echo(), "  ").prompted(user("hello")) == user("hello")
