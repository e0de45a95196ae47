"""Answering: what a name is answered by, and the engines that are in memory for it.

Called by the workspace, which knows what a name means; how an answer is made is `generate/`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.errors import CheckpointError, RequestError
from journeyman.generate import call_grammar
from journeyman.generate.calls import with_calls
from journeyman.generate.crew import Crew
from journeyman.generate.engine import Engine, Piece, Request
from journeyman.generate.loop import Load
from journeyman.generate.sampling import Sampling
from journeyman.generate.vllm import VllmEngine
from journeyman.models import bases
from journeyman.models.names import CHECKPOINT
from journeyman.models.publish import publish
from journeyman.plan import rules
from journeyman.plan.plan import Plan
from journeyman.records import Message, ToolUse
from journeyman.text.tools import call_readers

if TYPE_CHECKING:
    from journeyman.workspace import Workspace

MAX_ENGINES = 4
"""Bases in memory, fully fine-tuned models among them; a further one takes the place of the one asked least recently."""


@dataclass(frozen=True, slots=True)
class Served:
    """What answers under a model id: an engine and, for LoRA, the adapter on it."""

    id: str
    engine: Engine
    adapter: str | None


class Answering:
    """What answers in one workspace: its bases, its fully fine-tuned models and adapters. Safe to use from several threads."""

    def __init__(self, workspace: Workspace, vllm: Mapping[str, Any] | None, processes: int) -> None:
        self._workspace = workspace
        self._vllm = vllm
        self._crew = Crew(processes) if processes else None
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._engines_lock = threading.Lock()

    def served(self, model: str) -> Served:
        """What `Workspace.served` promises."""
        if CHECKPOINT in model:
            return self._served_checkpoint(model)
        version, base = self._workspace.named(model)
        if version is None:
            assert base is not None
            return Served(base.name, self._engine(base.folder), None)
        if base is None:
            return Served(version.id, self._engine(version.folder), None)
        engine = self._engine(base.folder)
        engine.add_adapter(version.id, version.folder)
        return Served(version.id, engine, version.id)

    def _served_checkpoint(self, name: str) -> Served:
        """A checkpoint as a model: its adapter on the base, or, where all weights were trained, a folder made of it."""
        job, folder = self._workspace.checkpoint_folder(name)
        plan, base = Plan.read(job.folder / "plan.json"), bases.resolve(job.base)
        if plan.base_hash != base.fingerprint:
            raise CheckpointError(f"the base of {name} has changed since", where=str(base.folder), fix="train again")
        if plan.method.value == "full":
            callable_folder = job.folder / "callable" / folder.name
            if not callable_folder.is_dir():
                publish(folder, callable_folder, base=base, plan=plan, metrics={"steps": plan.steps, "best_step": int(folder.name[5:])})
            return Served(name, self._engine(callable_folder), None)
        engine = self._engine(base.folder)
        penalty = plan.repetition_penalty.value  # a checkpoint's folder says nothing of it
        engine.add_adapter(name, folder, repetition_penalty=None if penalty == 1 else penalty)
        return Served(name, engine, name)

    def stream(
        self,
        model: str,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        tools: Sequence[Mapping[str, Any]],
        use: ToolUse,
        n: int,
        patient: bool,
    ) -> Iterator[Piece]:
        """What `Workspace.stream` promises."""
        served = self.served(model)
        chat = served.engine.chat
        names = [tool["function"]["name"] for tool in tools]
        callable_names = [name for name in names if use.names is None or name in use.names]
        readers = call_readers(chat, callable_names, n) if tools else []
        if tools and not readers:
            raise RequestError(
                f"the chat template of {served.id} writes no tool calls that can be read back",
                where="tools",
                fix="leave tools out, or use a base with calls in <tool_call> tags, such as Qwen",
                code="unsupported_parameter",
            )
        if readers and call_grammar.is_needed(tools, use, sampling.json_schema):
            grammar = call_grammar.call_grammar(readers[0].form, tools, use, sampling.json_schema)
            sampling = replace(sampling, grammar=grammar)
        prompt_ids = tuple(chat.prompt_ids(messages, tools))
        requests = [Request(prompt_ids, served.adapter, sampling.nth(index)) for index in range(n)]
        pieces = served.engine.stream(requests, patient=patient)
        return with_calls(pieces, readers, most=use.most, only_calls=use.must) if readers else pieces

    def prompt(self, model: str, prompt: str | Sequence[int]) -> tuple[str, list[int]]:
        """What `Workspace.prompt` promises."""
        chat = self.served(model).engine.chat
        if isinstance(prompt, str):
            ids = list(chat.tokenizer.encode(prompt).ids) or chat.ids(chat.special.get("bos_token", ""))
        else:
            ids = list(prompt)
        unknown = [i for i in ids if chat.tokenizer.id_to_token(i) is None]
        if unknown or not ids:
            said = f"{unknown[0]} is no token of this model" if unknown else "the prompt is empty"
            raise RequestError(said, where="prompt", fix="give text, or ids of the model's tokenizer", code="invalid_value")
        return (prompt if isinstance(prompt, str) else chat.text(ids)), ids

    def go_on(self, model: str, prompts: Sequence[tuple[Sequence[int], Sampling]]) -> Iterator[Piece]:
        """What `Workspace.go_on` promises."""
        served = self.served(model)
        return served.engine.stream([Request(tuple(ids), served.adapter, sampling) for ids, sampling in prompts])

    def unload(self, names: Collection[str], folders: Sequence[Path]) -> None:
        """Drop adapters of these names, and engines of models in these folders, from memory; answers under way go on."""
        with self._engines_lock:
            for key, engine in list(self._engines.items()):
                if any(Path(key).is_relative_to(folder) for folder in folders):
                    del self._engines[key]
                for name in names:
                    engine.drop_adapter(name)
        if self._crew is not None:
            for name in names:
                self._crew.forget(adapter=name)
            for folder in folders:
                self._crew.forget(folder=folder)

    def loads(self) -> dict[str, Load]:
        """What each loaded base is at and has done, by its folder."""
        return {folder: engine.load for folder, engine in list(self._engines.items())}

    @property
    def processes(self) -> tuple[int, int]:
        """How many processes for small models were begun, and how many of them take requests."""
        return (len(self._crew), self._crew.ready) if self._crew is not None and self._crew.begun else (0, 0)

    def _engine(self, folder: Path) -> Engine:
        """The engine of a base or of a fully fine-tuned model, loaded once; others wait for it meanwhile."""
        key = str(folder)
        with self._engines_lock:
            if key not in self._engines:
                self._drop_engines_beyond(MAX_ENGINES - 1)
                machine = self._workspace.machine()
                precision = rules.precision(machine, "lora").value
                if self._vllm is None:
                    self._engines[key] = Engine(folder, precision=precision, device=machine.device, crew=self._crew)
                else:
                    self._engines[key] = VllmEngine(folder, precision=precision, device=machine.device, arguments=self._vllm)
            self._engines.move_to_end(key)
            return self._engines[key]

    def _drop_engines_beyond(self, most: int) -> None:
        """Drop the least recently asked that answer nobody; a caller that still holds one may go on with it."""
        idle = [key for key, engine in self._engines.items() if not (engine.load.running or engine.load.waiting)]
        for key in idle[: max(0, len(self._engines) - most)]:
            del self._engines[key]
