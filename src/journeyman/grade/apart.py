"""Patterns and schemas that somebody wrote, tried in a process of their own, which ends where one takes too long.

Python's `re` backtracks: forty letters can keep `(a+)+$` at work for days, in one call that lets no other thread go on, so
that nothing inside of the process can end it. To read a pattern can take seconds too, and references in a schema can double
the work at each of their levels. Patterns keep the meaning they have in `re`: engines that can be stopped have another.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

MAX_S = 1.0
"""How long a pattern or a schema may compute over one text: what was written for use takes a thousandth."""

MAX_MEMORY_BYTES = 2 * 2**30

AT_ONCE = 4
"""Processes of one kind. Who asks while all compute waits."""


class UnansweredError(Exception):
    """There is no answer, and why."""


class Apart:
    """Processes that answer one kind of question, one at a time each. They start when they are needed, and stay."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._idle: list[subprocess.Popen[bytes]] = []
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer. Raises UnansweredError where it took longer than MAX_S, or its process ended otherwise."""
        line = json.dumps(question, default=str).encode() + b"\n"
        with self._free, self._process() as process:
            assert process.stdin and process.stdout
            with suppress(BrokenPipeError):
                process.stdin.write(line)
                process.stdin.flush()
            said = process.stdout.readline()
            if not said:
                status = process.wait()
                late = status == -signal.SIGPROF
                raise UnansweredError(f"it took longer than {MAX_S:g} s" if late else f"its process ended with status {status}")
        answer: dict[str, Any] = json.loads(said)
        return answer

    @contextmanager
    def _process(self) -> Iterator[subprocess.Popen[bytes]]:
        """One that waits for questions; it is kept, unless something goes wrong."""
        process = self._waiting() or self._started()
        try:
            yield process
        except BaseException:
            process.kill()
            with process:  # closes its pipes, and waits for its end
                raise
        self._idle.append(process)

    def _waiting(self) -> subprocess.Popen[bytes] | None:
        with suppress(IndexError):
            while (process := self._idle.pop()).poll() is not None:  # somebody has ended it
                with process:
                    pass
            return process
        return None

    def _started(self) -> subprocess.Popen[bytes]:
        # In a session of its own, Ctrl-C does not reach it: it ends when its input does, with whoever asks.
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, self._kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert process.stdout
        process.stdout.readline()  # it has loaded what it needs, which takes longer than most answers
        return process


REGEX = Apart("regex")
SCHEMA = Apart("schema")


def found(pattern: str, flags: int, text: str, *, count: bool) -> int:
    """How often a pattern is found in a text; without `count` 1 where it is. Raises UnansweredError."""
    answer = REGEX.ask({"pattern": pattern, "flags": flags, "text": text, "count": count})
    if "wrong" in answer:
        raise UnansweredError(answer["wrong"])
    return int(answer["found"])


def wrong_pattern(pattern: str, flags: int) -> str | None:
    """What keeps a text from being a pattern, or None."""
    try:
        return REGEX.ask({"pattern": pattern, "flags": flags, "text": "", "count": False}).get("wrong")
    except UnansweredError as error:
        return str(error)


def wrong_schema(schema_text: str) -> str | None:
    """What keeps a JSON text from being a JSON Schema (2020-12), or None."""
    try:
        return SCHEMA.ask({"schema": schema_text}).get("wrong")
    except UnansweredError as error:
        return str(error)


def misfit(schema_text: str, value_text: str) -> str | None:
    """Where and how a JSON text does not fit a schema, or None where it does. Raises UnansweredError."""
    answer = SCHEMA.ask({"schema": schema_text, "value": value_text})
    if "wrong" in answer:
        raise UnansweredError(answer["wrong"])
    return answer.get("misfit")


# ── in the process apart ──────────────────────────────────────────────────────────────────────────────────────


def _searcher() -> Callable[[dict[str, Any]], dict[str, Any]]:
    def answer(question: dict[str, Any]) -> dict[str, Any]:
        try:
            pattern = re.compile(question["pattern"], question["flags"])
        except (re.error, OverflowError, RecursionError) as error:
            return {"wrong": str(error)}
        if question["count"]:
            return {"found": sum(1 for _ in pattern.finditer(question["text"]))}
        return {"found": int(pattern.search(question["text"]) is not None)}

    return answer


def _validator() -> Callable[[dict[str, Any]], dict[str, Any]]:
    import jsonschema
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = jsonschema.Draft202012Validator

    @lru_cache(16)
    def read(text: str) -> Any:
        """A validator, or in words what is wrong with its schema."""
        schema = json.loads(text)
        try:
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            return error.message
        return kind(schema, registry=Registry())  # references to the network are not followed

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        try:
            validator = read(question["schema"])
            if isinstance(validator, str):
                return {"wrong": validator}
            if "value" not in question:
                return {}
            error = next(iter(validator.iter_errors(json.loads(question["value"]))), None)
        except (Unresolvable, re.error, RecursionError, ArithmeticError) as broken:
            return {"wrong": str(broken)}
        return {} if error is None else {"misfit": f"{error.json_path}: {error.message}"}

    return answer


def _answer_questions(kind: str) -> None:
    """Answer what comes in, a line of JSON each, until nothing does; the kernel ends the process where an answer takes MAX_S."""
    answer = {"regex": _searcher, "schema": _validator}[kind]()
    with suppress(ValueError, OSError):  # not every system bounds memory
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # nothing else may write where the answers go
        out.write(b"ready\n")
        out.flush()
        for line in sys.stdin.buffer:
            question = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, MAX_S)  # of computing: a machine that is busy otherwise makes no pattern slow
            said = answer(question)
            signal.setitimer(signal.ITIMER_PROF, 0)
            out.write(json.dumps(said).encode() + b"\n")
            out.flush()


if __name__ == "__main__":
    _answer_questions(sys.argv[1])
