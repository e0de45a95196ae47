"""Small models answered in processes of their own, one a core.

A pass of a small model is so short that Python's lock, which threads of one process share, is what it waits for: two threads
that compute side by side, beside those that send, do little more than one. A process has a lock of its own. The members of a
crew are such processes; each answers with any small model it is asked for, with a loop and an engine as they are in one
process. This process keeps the queue's bound and says who asks whom.

Where no member is there, at the start or after deaths, the loop of this process answers. A member that dies is begun again;
what it had not said a word of yet is answered here, and what it was in the middle of fails.

Other processes are asked over a socket that only they have, in Python's pickles: nothing of it is kept or comes from outside.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from journeyman.errors import JourneymanError, QueueFull
from journeyman.generate.loop import MAX_ROWS, MAX_WAITING, Load, retry_after_s
from journeyman.generate.row import Piece, Request, Row

MEMBER = "journeyman.generate.member"
"""The module that a member runs."""

DEATHS = 3
"""A member that dies so often within DEATHS_S is not begun again: something here kills it, and will again."""

DEATHS_S = 60.0

log = logging.getLogger("journeyman.generate")


@dataclass(frozen=True, slots=True)
class Model:
    """What a member loads, and its answers are asked of."""

    folder: Path
    precision: str
    kv_bytes: int


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that a member adds when it is first asked for."""

    name: str
    folder: Path
    repetition_penalty: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer to be made, under a number that what is said of it bears, in the place `index` of its request."""

    number: int
    index: int
    request: Request


@dataclass(frozen=True, slots=True)
class Ask:
    """To a member: answer these; where there are none, only load the model."""

    model: Model
    adapters: tuple[Adapter, ...]
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """To a member: nobody waits for these any more."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """To a member: the adapter of this name is gone, or the model in this folder."""

    adapter: str | None = None
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """From a member: what came since it spoke last, in its order, and what each of its engines has done so far."""

    pieces: tuple[tuple[int, Piece | BaseException], ...]
    loads: Mapping[Path, Load]


class Queue(Protocol):
    """What an engine asks of whoever answers its rows."""

    @property
    def load(self) -> Load:
        """What it is at, and has done."""
        ...

    def submit(self, rows: Sequence[Row], *, patient: bool = False) -> None:
        """See Loop.submit."""
        ...

    def leave(self, rows: Sequence[Row]) -> None:
        """Nobody waits for these rows any more, if they are not done."""
        ...


class Crew:
    """`count` members. They are begun at the first request, in the background, and end with this object or process."""

    def __init__(self, count: int) -> None:
        self._members = [_Member() for _ in range(count)]
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._begun = False
        _crews.add(self)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def ready(self) -> int:
        """How many members take requests."""
        return sum(member.ready for member in self._members)

    @property
    def begun(self) -> bool:
        """Whether the members were started; none is before the first request to a small model."""
        return self._begun

    @property
    def pids(self) -> list[int]:
        """The processes of the members that run."""
        return [m.process.pid for m in self._members if m.process is not None and m.process.poll() is None]

    def begin(self, model: Model) -> None:
        """Start the members, once; they are ready some seconds later, when they have loaded this model."""
        with self._lock:
            begun, self._begun = self._begun, True
        if not begun:
            for member in self._members:
                member.start(model)

    def least(self) -> _Member | None:
        """The member with the fewest answers under way; None where none is ready."""
        return min((m for m in self._members if m.ready), key=lambda m: len(m.rows), default=None)

    def number(self) -> int:
        """A number that no answer had before."""
        return next(self._numbers)

    def forget(self, *, adapter: str | None = None, folder: Path | None = None) -> None:
        """Let the members drop an adapter, or a model, that is gone; answers under way go on."""
        for member in self._members:
            if member.ready:
                member.tell(Forget(adapter, folder))

    def under_way(self, queue: CrewQueue) -> int:
        """How many answers of a model the members are at."""
        return sum(waiting.queue is queue for member in self._members for waiting in list(member.rows.values()))

    def leave(self, gone: Collection[int]) -> None:
        """Nobody waits for the rows of these `id()` any more."""
        for member in self._members:
            numbers = tuple(number for number, waiting in list(member.rows.items()) if id(waiting.row) in gone)
            for number in numbers:
                member.rows.pop(number, None)
            if numbers:
                member.tell(Leave(numbers))

    def loads(self, folder: Path) -> Iterator[Load]:
        """What the members' engines of a model have done."""
        return (member.loads[folder] for member in self._members if folder in member.loads)

    def close(self) -> None:
        """End the members; answers under way fail."""
        for member in self._members:
            member.close()


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for crew in list(_crews):
        crew.close()


@dataclass(slots=True)
class _Waiting:
    """A row that a member was given, and whether it has said anything of it."""

    row: Row
    queue: CrewQueue
    begun: bool = False


class _Member:
    """One process, and what it is at."""

    def __init__(self) -> None:
        self.ready = False
        self.rows: dict[int, _Waiting] = {}
        self.loads: dict[Path, Load] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._sending = threading.Lock()
        self._changing = threading.Lock()
        self._died_s: deque[float] = deque(maxlen=DEATHS)
        self._closed = False

    def start(self, model: Model) -> None:
        """Begin the process, let it load a model, and read what it says until it ends."""
        mine, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", MEMBER, str(theirs.fileno())]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._connection = Connection(mine.detach())
        self.tell(Ask(model, (), ()))
        threading.Thread(target=self._read, args=(self._connection, self.process, model), name="crew", daemon=True).start()

    def ask(self, model: Model, adapters: Sequence[Adapter], rows: Mapping[int, Row], queue: CrewQueue) -> bool:
        """Give the member rows; false where it is no longer there, and the rows are the caller's again."""
        with self._changing:
            if not self.ready:
                return False
            self.rows |= {number: _Waiting(row, queue) for number, row in rows.items()}
        asked = tuple(Asked(number, row.index, row.request) for number, row in rows.items())
        self.tell(Ask(model, tuple(adapters), asked))  # where that fails, whoever reads finds the end, and the rows
        return True

    def tell(self, message: Ask | Leave | Forget) -> None:
        """Send, unless the member has just ended."""
        try:
            with self._sending:
                if self._connection is not None:
                    self._connection.send(message)
        except OSError:
            pass

    def close(self) -> None:
        """End the process. It ends by itself when its socket does."""
        self._closed = True
        with self._sending:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()

    def _read(self, connection: Connection, process: subprocess.Popen[bytes], model: Model) -> None:
        try:
            while True:
                said: Said = connection.recv()
                self.ready = True
                self.loads |= said.loads
                for number, piece in said.pieces:
                    self._hand_on(number, piece)
        except (EOFError, OSError):
            pass
        except Exception:
            log.exception("a process that answers said what can't be read")
        self._ended(connection, process, model)

    def _hand_on(self, number: int, piece: Piece | BaseException) -> None:
        waiting = self.rows.get(number)
        if waiting is None:
            return
        waiting.begun = True
        if isinstance(piece, BaseException) or piece.stop is not None:
            self.rows.pop(number, None)
            waiting.row.done = True
            waiting.queue.ended_s.append(time.monotonic())
        if isinstance(piece, BaseException):
            waiting.row.fail(piece)
        else:
            waiting.row.sink(piece)

    def _ended(self, connection: Connection, process: subprocess.Popen[bytes], model: Model) -> None:
        with self._changing:
            self.ready = False
            rows, self.rows = self.rows, {}
        with self._sending:
            self._connection = None
            connection.close()
        process.kill()
        status = process.wait()
        if not self._closed:
            log.error("a process that answers ended (%s) with %d answers under way", _how(status), len(rows))
            self._died_s.append(time.monotonic())
            if len(self._died_s) < DEATHS or self._died_s[-1] - self._died_s[0] > DEATHS_S:
                self.start(model)
            else:
                log.error("it is not begun again: it died %d times within %d s; the server's own process answers", DEATHS, DEATHS_S)
        for waiting in rows.values():
            if waiting.begun or self._closed:
                waiting.row.fail(_died(status))
            elif not waiting.row.cancelled:
                waiting.queue.local.submit([waiting.row], patient=True)


def _how(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def _died(status: int) -> JourneymanError:
    return JourneymanError(
        f"the process that wrote this answer ended ({_how(status)})",
        fix="ask again; where it ends again, the server's log and the system's (memory) say more",
        code="answering_ended",
    )


class CrewQueue:
    """One model's way to the crew; `local` answers where no member is there. `adapters` are those the model has by now."""

    def __init__(
        self,
        crew: Crew,
        model: Model,
        adapters: Mapping[str, Adapter],
        local: Queue,
        *,
        max_rows: int = MAX_ROWS,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.local = local
        self.ended_s: deque[float] = deque(maxlen=64)
        self._crew = crew
        self._model = model
        self._adapters = adapters
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._refused = 0

    def submit(self, rows: Sequence[Row], *, patient: bool = False) -> None:
        """See Loop.submit. Rows of one prompt go to one member, which reads it once."""
        self._crew.begin(self._model)
        waiting = self._under_way() - self._crew.ready * self._max_rows
        if self._crew.ready and not patient and waiting >= self._max_waiting:
            self._refused += len(rows)
            raise QueueFull(waiting, retry_after_s(waiting, self.ended_s))
        of_prompt: dict[tuple[object, ...], list[Row]] = {}
        for row in rows:
            of_prompt.setdefault((row.request.adapter, row.request.prompt_ids), []).append(row)
        left = [alike for alike in of_prompt.values() if not self._give(alike)]
        if left:
            self.local.submit([row for alike in left for row in alike], patient=patient)

    def _give(self, rows: Sequence[Row]) -> bool:
        name = rows[0].request.adapter
        adapters = () if name is None else (self._adapters[name],)
        while (member := self._crew.least()) is not None:
            if member.ask(self._model, adapters, {self._crew.number(): row for row in rows}, self):
                return True
        return False

    def leave(self, rows: Sequence[Row]) -> None:
        """See Queue."""
        gone = {id(row) for row in rows if not row.done}
        self.local.leave(rows)
        if gone:
            self._crew.leave(gone)

    def _under_way(self) -> int:
        return self._crew.under_way(self)

    @property
    def load(self) -> Load:
        """See Queue: all members' and this process's together."""
        under_way, own = self._under_way(), self.local.load
        running = min(under_way, len(self._crew) * self._max_rows)
        total = Load()
        for part in (own, *self._crew.loads(self._model.folder)):
            for one in fields(Load):
                setattr(total, one.name, getattr(total, one.name) + getattr(part, one.name))
        return replace(
            total, running=own.running + running, waiting=own.waiting + under_way - running, refused=own.refused + self._refused
        )
