"""One process of a crew: `python -m journeyman.generate.member FD`, where FD is its end of a socket. See crew.py."""

from __future__ import annotations

import gc
import os
import pickle
import random
import signal
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue

import torch

from journeyman import logs, settings
from journeyman.generate.crew import Ask, Forget, Leave, Model, Said
from journeyman.generate.engine import Engine
from journeyman.generate.row import Piece, Request, Row
from journeyman.generate.sampling import Sampling
from journeyman.train.allocator import share_one_arena

WARM_ROWS = 32
"""Answers that a model is warmed with, of prompts and lengths that all differ, so that passes of many sizes come about."""

MAX_ENGINES = 4
"""Models in memory, as in the server's own process."""


class Member:
    """Answers what it is asked over a connection until that ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._engines: OrderedDict[Model, Engine] = OrderedDict()
        self._rows: dict[int, tuple[Engine, Row]] = {}
        self._out: SimpleQueue[tuple[int, Piece | BaseException]] = SimpleQueue()

    def run(self) -> None:
        """Take what comes, until the other end is gone."""
        with suppress(EOFError, OSError):
            self._take(self._connection.recv())  # the first is to load a model, which is told before anything else is
            threading.Thread(target=self._speak, name="speaking", daemon=True).start()
            while True:
                self._take(self._connection.recv())

    def _take(self, message: Ask | Leave | Forget) -> None:
        match message:
            case Ask():
                self._answer(message)
            case Leave(numbers):
                for engine, row in (self._rows.pop(n) for n in numbers if n in self._rows):
                    engine.leave([row])
            case Forget(adapter, folder):
                for model, engine in list(self._engines.items()):
                    if folder is not None and model.folder.is_relative_to(folder):
                        del self._engines[model]
                    elif adapter is not None:
                        engine.drop_adapter(adapter)

    def _answer(self, ask: Ask) -> None:
        try:
            engine = self._engine(ask.model)
            if not ask.asked:
                self._connection.send(Said((), {}))
            for adapter in ask.adapters:
                engine.add_adapter(adapter.name, adapter.folder, repetition_penalty=adapter.repetition_penalty)
            sinks = [partial(self._put, one.number) for one in ask.asked]
            rows = engine.rows([one.request for one in ask.asked], sinks, [one.index for one in ask.asked])
            self._rows |= {one.number: (engine, row) for one, row in zip(ask.asked, rows, strict=True)}
            engine.submit(rows, patient=True)
        except Exception as error:  # the one who asked raises it again
            for one in ask.asked:
                self._put(one.number, error)

    def _engine(self, model: Model) -> Engine:
        if model not in self._engines:
            idle = [known for known, engine in self._engines.items() if not (engine.load.running or engine.load.waiting)]
            for known in idle[: max(0, len(self._engines) - MAX_ENGINES + 1)]:
                del self._engines[known]
            self._engines[model] = _warmed(Engine(model.folder, precision=model.precision, kv_bytes=model.kv_bytes))
        self._engines.move_to_end(model)
        return self._engines[model]

    def _put(self, number: int, piece: Piece | BaseException) -> None:
        """Called by the answering thread, which goes on computing: what a pass has said is sent together."""
        self._out.put((number, piece))

    def _speak(self) -> None:
        with suppress(OSError):
            while True:
                pieces = [self._out.get()]
                with suppress(Empty):
                    while True:
                        pieces.append(self._out.get_nowait())
                for number, piece in pieces:
                    if isinstance(piece, BaseException) or piece.stop is not None:
                        self._rows.pop(number, None)
                loads = {model.folder: engine.load for model, engine in list(self._engines.items())}
                self._connection.send(Said(tuple((n, _portable(piece)) for n, piece in pieces), loads))


def _warmed(engine: Engine) -> Engine:
    """The engine after some answers that nobody reads: oneDNN makes a kernel for each shape it meets, and memory is first touched.

    Half a second, without which the first requests would each wait for their share of it.
    """
    source = random.Random(0)
    ids = range(engine.model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
    unending = dict.fromkeys(engine.chat.stop_ids, -100.0)
    prompts = [tuple(source.choices(ids, k=min(4 + 6 * n, engine.context_tokens // 2))) for n in range(WARM_ROWS)]
    engine.answers([Request(ids, None, Sampling(max_tokens=4 + n, logit_bias=unending)) for n, ids in enumerate(prompts)])
    engine.count_anew()
    return engine


def _portable(piece: Piece | BaseException) -> Piece | BaseException:
    """What can be sent: an error whose class can't be built again from its parts is told by its text."""
    if isinstance(piece, Piece):
        return piece
    try:
        pickle.loads(pickle.dumps(piece))
    except Exception:
        return RuntimeError(f"{type(piece).__name__}: {piece}")
    return piece


def main() -> None:
    """Answer until the server's end of the socket is closed; what stops the server is the server's to hear."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logs.begin(settings.load().log_format)
    share_one_arena()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # what the libraries hold is never garbage, and looking through it takes longer than a pass
    Member(Connection(int(sys.argv[1]))).run()
    os._exit(0)  # nothing here is to be saved, and the answering thread may be in the middle of a pass


if __name__ == "__main__":
    main()
