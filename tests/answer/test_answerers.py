import pytest

from journeyman.answer.answerer import Echo, Scripted
from journeyman.answer.prompt import Prompt, Prompted
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


def example(asked, ideal, line=1):
    return Example(
        (Message("system", "old"), Message("user", asked), Message("assistant", ideal)), Place("train", line)
    )


def test_instructions_and_shots_stand_before_the_conversation_the_nearest_last():
    inner = Scripted(["ok"])
    prompt = Prompt("Be brief.\n", shots=lambda _: [example("q1", "a1"), example("q2", "a2", 2)])
    prompted = Prompted(inner, prompt, "few")
    prompted.answers([user("hello")], SAMPLING)
    assert [(m.role, m.content) for m in inner.asked[0]] == [
        ("system", "Be brief."),
        ("user", "q2"),
        ("assistant", "a2"),
        ("user", "q1"),
        ("assistant", "a1"),
        ("user", "hello"),
    ]
    assert prompt.ask(user("hello")).shots == ("train:1", "train:2")


def test_a_conversations_own_system_message_is_kept_in_one_system_message():
    asked = Prompt("Be brief.").ask((Message("developer", "In French."), *user("hello"))).messages
    assert [(m.role, m.content) for m in asked] == [("system", "Be brief.\n\nIn French."), ("user", "hello")]


def test_no_instructions_leave_the_conversation_as_it_is():
    assert Prompt("  ").ask(user("hello")).messages == user("hello")


def test_what_finds_no_room_is_counted_the_least_important_first_and_instructions_stay():
    shots = [example(f"q{n}", f"a{n}", n) for n in range(1, 5)]
    asked = Prompt("Rules.", shots=lambda _: shots, fits=lambda messages, _tools: len(messages) <= 6).ask(
        user("hello")
    )
    assert (asked.shots, asked.left_out) == (("train:1", "train:2"), 2)
    nothing_fits = Prompt("Rules.", shots=lambda _: shots, fits=lambda _messages, _tools: False).ask(user("hello"))
    assert [m.content for m in nothing_fits.messages] == ["Rules.", "hello"]
    assert nothing_fits.left_out == 4
