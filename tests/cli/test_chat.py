"""`chat`: answers side by side where there is room, one below the other elsewhere, and conversations that go on."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs.job_rows import write_rows
from journeyman.cli.chat import Conversations, alternately, show_together
from journeyman.cli.main import app
from journeyman.cli.show import Screen
from journeyman.errors import RequestError
from journeyman.generate.engine import Piece
from journeyman.generate.sampling import Sampling
from journeyman.records import Message, Usage
from journeyman.request import TrainRequest
from journeyman.workspace import Wishes, Workspace

ANSWERS = {"base": "one two three four", "ft:tuned": "ein zwei drei vier"}


class Answering:
    """The part of a workspace that a chat calls, with answers of known words and a context of `room` messages."""

    def __init__(self, room: int = 100) -> None:
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self._room = room

    def stream(self, model: str, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        self.asked.append((model, [(m.role, m.content) for m in messages]))
        if len(messages) > self._room:
            raise RequestError("too long", code="context_length_exceeded")
        words = ANSWERS[model].split(" ")
        yield from (Piece(0, f"{word} ") for word in words[:-1])
        yield Piece(0, words[-1], "end", Usage(1, len(words)))


def screen_of(width: int, *, terminal: bool = True) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    screen = Screen()
    screen.console = Console(file=out, width=width, height=24, force_terminal=terminal, highlight=False)
    return screen, out


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()


def conversations(workspace: Any, names: Sequence[str] = tuple(ANSWERS), system: str | None = None) -> Conversations:
    return Conversations(workspace, names, system, Sampling())


def test_a_wide_terminal_shows_two_columns() -> None:
    screen, out = screen_of(80)
    conversations(Answering()).ask(screen, "Count.")
    lines = plain(out.getvalue())
    assert any(re.search(r"── base +── ft:tuned", line) for line in lines)
    (answers,) = {line.rstrip() for line in lines if "four" in line}
    assert re.fullmatch(r"one two three four +ein zwei drei vier", answers)
    assert answers.index("ein") >= 40


@pytest.mark.parametrize(("width", "terminal"), [(69, True), (140, False)])
def test_a_narrow_terminal_or_a_pipe_shows_one_below_the_other(width: int, terminal: bool) -> None:
    screen, out = screen_of(width, terminal=terminal)
    conversations(Answering()).ask(screen, "Count.")
    assert [line for line in plain(out.getvalue()) if line] == [
        "── base",
        ANSWERS["base"],
        "── ft:tuned",
        ANSWERS["ft:tuned"],
    ]


def test_both_answers_advance_together_and_the_longer_goes_on_alone() -> None:
    assert list(alternately([iter("ab"), iter("1234")])) == [
        (0, "a"), (1, "1"), (0, "b"), (1, "2"), (1, "3"), (1, "4"),
    ]  # fmt: skip


def test_both_answers_are_seen_while_they_grow() -> None:
    screen, out = screen_of(80)

    def once_drawn(*words: str) -> Iterator[str]:
        yield words[0]
        deadline = time.monotonic() + 10  # both streams have given their first word when one is asked for its second
        while "soon" not in out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
        growing.append(out.getvalue())
        yield words[1]

    growing: list[str] = []
    show_together(screen.console, ["a", "b"], [once_drawn("now", " later"), once_drawn("soon", " later")])
    assert re.search(r"now +soon", growing[0])
    assert "later" not in growing[0]
    assert re.search(r"now later +soon later", out.getvalue())


def test_an_answer_longer_than_the_terminal_is_there_in_the_end() -> None:
    screen, out = screen_of(80)
    words = [f"word{n}\n" for n in range(60)]
    texts = show_together(screen.console, ["a", "b"], [iter(words), iter(["short"])])
    assert texts == ["".join(words), "short"]
    shown = "\n".join(plain(out.getvalue()))
    end = shown[shown.rindex("── a") :]
    assert [f"word{n}" in end for n in range(60)] == [True] * 60


def test_what_was_said_is_remembered_by_each_model() -> None:
    workspace = Answering()
    screen, _ = screen_of(80)
    talk = conversations(workspace, system="Be brief.")
    talk.ask(screen, "Count.")
    talk.ask(screen, "Again.")
    assert workspace.asked[2:] == [
        (name, [("system", "Be brief."), ("user", "Count."), ("assistant", ANSWERS[name]), ("user", "Again.")])
        for name in ANSWERS
    ]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, bases: Callable[..., Path]) -> tuple[Workspace, str]:
    folder = tmp_path_factory.mktemp("chat")
    workspace = Workspace(folder)
    rows = write_rows(folder / "rows.jsonl", 20)
    request = TrainRequest(str(rows), base=str(bases("llama")), wishes=Wishes(epochs=1, batch_size=4, rank=4))
    _, version = workspace.train(request)
    assert version is not None
    return workspace, version.id


@pytest.fixture
def run(tuned: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tuned[0].settings.home))
    return lambda *words, typed="": CliRunner().invoke(app, ["chat", *words], input=typed, catch_exceptions=True)


def test_piped_questions_are_answered_line_by_line_by_base_and_tuned(tuned, run) -> None:
    workspace, model = tuned
    result = run(model, "--beside", "--max-tokens", "5", typed="Hello\n\nAnd now?\n")
    assert result.exit_code == 0, result.output
    base = workspace.registry.get(model).base_source
    assert [line for line in result.output.splitlines() if line.startswith("── ")] == [f"── {base}", f"── {model}"] * 2


def test_a_base_has_nothing_beside_it(tuned, run) -> None:
    workspace, model = tuned
    result = run(workspace.registry.get(model).base_source, "--beside", typed="Hello\n")
    assert isinstance(result.exception, RequestError)
    assert result.exception.where == "--beside"


def test_a_conversation_that_outgrows_the_context_begins_anew_and_says_so(tuned, run) -> None:
    _, model = tuned  # its context is 192 tokens
    typed = "".join(f"Question number {n}, and some words to fill the room there is.\n" for n in range(5))
    result = run(model, "--max-tokens", "40", typed=typed)
    assert result.exit_code == 0, result.output
    assert "no longer fits into the model's context" in result.output


def test_a_question_that_can_never_fit_is_an_error(tuned, run) -> None:
    result = run(tuned[1], typed="word " * 400 + "\n")
    assert isinstance(result.exception, RequestError)
    assert result.exception.code == "context_length_exceeded"


def test_a_question_that_is_not_utf8_is_an_error(tuned, run) -> None:
    result = run(tuned[1], typed=b"caf\xe9\n")
    assert getattr(result.exception, "where", None) == "standard input", result.exception
