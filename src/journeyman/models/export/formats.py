"""The three formats: each writes its files into a folder, reads them back, and says how far they are apart."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig

from journeyman.errors import BaseNotFound, ExportError
from journeyman.files import read_json, write_text
from journeyman.generate.sampling import GENERATION_FILE, own_repetition_penalty
from journeyman.models.export import replay
from journeyman.models.export.llamacpp import families, tokenizer
from journeyman.models.export.llamacpp import read as gguf_read
from journeyman.models.export.llamacpp import write as gguf_write
from journeyman.models.export.place import check_disk
from journeyman.models.export.rounding import BITS, DTYPES, WEIGHT_TYPES, round_model, stored_as
from journeyman.models.export.source import Source
from journeyman.models.publish import CHAT_FILES
from journeyman.plan.machine import free_memory_bytes
from journeyman.plan.shape import ModelShape
from journeyman.text.template import ChatFormat
from journeyman.train import lora
from journeyman.train.load import load_base

OnStage = Callable[[str], None]
_FEW = 0.98
"""Below this share of unchanged likeliest tokens the user is told what rounding costs."""


@dataclass(frozen=True)
class Replayed:
    """What a format's writer has to say: the type it wrote, the replay's numbers, remarks for the user."""

    type: str
    replay: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def check_type(to: str, dtype: str | None) -> None:
    """Raises ExportError where weights of this format can't have this type."""
    allowed = {"adapter": (), "merged": tuple(DTYPES), "gguf": WEIGHT_TYPES}[to]
    if dtype is None or dtype in allowed:
        return
    if not allowed:
        raise ExportError("an adapter is copied as it is", where="--type", fix="leave --type out")
    raise ExportError(
        f"{dtype!r} is not a type of {to} weights", where="--type", fix=f"use one of {', '.join(allowed)}"
    )


# ── the formats ───────────────────────────────────────────────────────────────────────────────────────────────────


def _adapter(source: Source, scratch: Path, dtype: str | None, on_stage: OnStage) -> Replayed:
    if source.adapter is None:
        raise ExportError(
            f"{source.id} has no adapter: "
            + ("all its weights were trained" if source.version else "it is a base"),
            where="--to adapter",
            fix="export with --to merged",
            code="export_unsupported",
        )
    check_disk(scratch, sum(f.stat().st_size for f in source.adapter.iterdir()))
    _check_memory(source)
    on_stage("copying the adapter")
    for file in source.adapter.iterdir():
        shutil.copyfile(file, scratch / file.name)
    on_stage("replaying")
    model = load_base(source.folder)
    chat = ChatFormat.open(source.folder)
    rows = replay.rows_for(source.examples, chat, ModelShape.read(source.folder).context_tokens)
    readings = []
    for name, folder in (("registered", source.adapter), ("exported", scratch)):
        lora.load_adapter(model, name, folder)
        lora.activate(model, name)
        readings.append(replay.read(model, rows))
    limit = replay.limit(replay.noise(model, rows, readings[1]))
    apart = replay.compare(*readings)
    replay.insist(apart, limit, "the copied adapter answers differently", where=str(scratch))
    return Replayed("f32", _numbers(rows, apart, limit) | _tokens(source, chat, scratch))


def _merged(source: Source, scratch: Path, dtype: str | None, on_stage: OnStage) -> Replayed:
    dtype = dtype or own_type(source.folder)
    shape = ModelShape.read(source.folder)
    check_disk(scratch, shape.params * BITS[dtype] / 8)
    loaded = _load(source, shape.context_tokens, on_stage)
    expected = loaded.round(lambda _: dtype)
    on_stage("writing")
    loaded.model.to(DTYPES[dtype]).save_pretrained(scratch)
    for name in (*CHAT_FILES, GENERATION_FILE, "tokenizer.model"):
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, scratch / name)
    if source.adapter is not None and (source.adapter / GENERATION_FILE).is_file():  # what it answers with, before the base's
        shutil.copyfile(source.adapter / GENERATION_FILE, scratch / GENERATION_FILE)
    if loaded.chat.plain:  # other tools must find the template that was trained with
        write_text(scratch / "chat_template.jinja", loaded.chat.template)
    loaded.free()
    on_stage("replaying")
    apart = replay.compare(expected, replay.read(load_base(scratch), loaded.rows))
    replay.insist(apart, loaded.limit, "the merged files answer differently", where=str(scratch))
    return loaded.result(dtype, expected, apart, _tokens(source, loaded.chat, scratch))


def _gguf(source: Source, scratch: Path, dtype: str | None, on_stage: OnStage) -> Replayed:
    gguf_write.library()
    dtype = dtype or own_type(source.folder)
    config = _config(source.folder)
    gguf_write.check_family(config)
    chat = ChatFormat.open(source.folder)
    vocabulary = tokenizer.vocabulary(chat, config.vocab_size)
    check_disk(scratch, ModelShape.read(source.folder).params * BITS[dtype] / 8)
    loaded = _load(source, families.context_tokens(config), on_stage)
    expected = loaded.round(lambda shape: stored_as(shape, dtype))
    on_stage("writing")
    path = scratch / f"{file_name(source.id)}-{dtype.upper()}.gguf"
    about = {"name": source.id, "description": _description(source)}
    gguf_write.write(path, loaded.model, chat, vocabulary, dtype=dtype, about=about)
    loaded.free()
    on_stage("replaying")
    file = gguf_read.read(path)
    apart = replay.compare(expected, replay.read(file.model, loaded.rows))
    replay.insist(apart, loaded.limit, "the GGUF file answers differently", where=str(path))
    rebuilt = tokenizer.rebuild(file.vocabulary)
    texts = [tokenizer.composed(chat, text) for text in replay.texts_for(source.examples, chat)]
    replay.insist_on_tokens(
        texts, chat.ids, lambda t: rebuilt.encode(t, add_special_tokens=False).ids, where=str(path)
    )
    _insist_on_template(chat, file.template, where=str(path))
    notes = (*families.notes(config), *tokenizer.notes(chat, vocabulary), *_penalty_notes(source))
    return loaded.result(dtype, expected, apart, {"texts": len(texts), "token_ids": "same"}, notes)


def _penalty_notes(source: Source) -> list[str]:
    penalty = own_repetition_penalty(source.folder)
    if source.adapter is not None:
        penalty = own_repetition_penalty(source.adapter, default=penalty)
    if penalty == 1:
        return []
    return [f"the model answers with a repetition penalty of {penalty:g}, which GGUF has no place for: --repeat-penalty {penalty:g}"]


# ── the model while it is exported ────────────────────────────────────────────────────────────────────────────────


class _Loaded:
    """The model in fp32, its adapter added, and what it says of the rows."""

    def __init__(self, source: Source, context_tokens: int) -> None:
        self.model: Any = load_base(source.folder)
        self.chat = ChatFormat.open(source.folder)
        self.rows = replay.rows_for(source.examples, self.chat, context_tokens)
        if source.adapter is not None:
            lora.load_adapter(self.model, "exported", source.adapter)
            lora.activate(self.model, "exported")
        self.exact = replay.read(self.model, self.rows)
        self.limit = replay.limit(replay.noise(self.model, self.rows, self.exact))
        if source.adapter is not None:
            lora.merge_adapter(self.model, "exported")
            apart = replay.compare(self.exact, replay.read(self.model, self.rows))
            replay.insist(
                apart, self.limit, "adding the adapter changes the answers", where=str(source.adapter)
            )

    def round(self, kind: Callable[[tuple[int, ...]], str]) -> replay.Reading:
        """Round each weight to what its type can hold, and read again: what the files must say."""
        round_model(self.model, kind)
        return replay.read(self.model, self.rows)

    def free(self) -> None:
        """Give the memory back before the files are loaded."""
        self.model = nn.Identity()

    def result(
        self,
        dtype: str,
        expected: replay.Reading,
        apart: replay.Difference,
        tokens: Mapping[str, Any],
        notes: Sequence[str] = (),
    ) -> Replayed:
        """The replay's numbers, and a remark where rounding changed what the model would say."""
        cost = replay.compare(self.exact, expected)
        numbers = {**_numbers(self.rows, apart, self.limit), **tokens, "rounding": cost.as_dict()}
        if cost.same_likeliest < _FEW:
            share = 100 * (1 - cost.same_likeliest)
            notes = (
                *notes,
                f"rounding to {dtype} changes the likeliest token at {share:.0f}% of places; --type f32 keeps all",
            )
        return Replayed(dtype, numbers, tuple(notes))


def _load(source: Source, context_tokens: int, on_stage: OnStage) -> _Loaded:
    _check_memory(source)
    on_stage("loading")
    return _Loaded(source, context_tokens)


def _numbers(rows: Sequence[Sequence[int]], apart: replay.Difference, limit: float) -> dict[str, Any]:
    tokens = sum(len(row) - 1 for row in rows)
    return {"rows": len(rows), "tokens": tokens, "largest_difference": apart.largest, "limit": limit}


def _tokens(source: Source, chat: ChatFormat, folder: Path) -> dict[str, Any]:
    """The tokenizer and template of the exported folder, held against the served ones."""
    exported = ChatFormat.open(folder)
    texts = replay.texts_for(source.examples, chat)
    replay.insist_on_tokens(texts, chat.ids, exported.ids, where=str(folder))
    _insist_on_template(chat, exported.template, where=str(folder))
    return {"texts": len(texts), "token_ids": "same"}


def _insist_on_template(chat: ChatFormat, template: str, *, where: str) -> None:
    if template != chat.template:
        raise ExportError(
            "the files hold another chat template than the served one",
            where=where,
            fix="nothing was published; this is a defect: report it with the base's name",
            code="replay_mismatch",
        )


def _config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise BaseNotFound(
            f"transformers can't read this model's config.json: {str(error).splitlines()[0]}",
            where=str(folder),
            fix="give a decoder-only causal model that this transformers version knows",
        ) from error


def own_type(folder: Path) -> str:
    """The weight type a model's config.json names; f32 where it names none of ours."""
    config = read_json(folder / "config.json")
    name = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    return next(
        (ours for ours, theirs in DTYPES.items() if str(theirs).removeprefix("torch.") == name), "f32"
    )


def file_name(model: str) -> str:
    """A model's id as the name of a file or folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", model)


def _description(source: Source) -> str:
    if source.version is None:
        return f"The base model {source.base}"
    return f"{source.base}, fine-tuned ({source.version.method}) on the dataset {source.version.dataset_hash[:12]}"


def _check_memory(source: Source) -> None:
    """Weights are merged and replayed in fp32, one model at a time.

    Beside the fp32 weights, 0.5 GiB were seen to be held for 495 million parameters (logits, the largest tensor's
    copies); mapped files come on top, and give way where memory is short.
    """
    needed = ModelShape.read(source.folder).params * 4 * 1.25 + 0.5 * 2**30
    free = free_memory_bytes()
    if needed > free:
        raise ExportError(
            f"needs about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free",
            where=str(source.folder),
            fix="export on a machine with more memory"
            + (f"; the adapter lies in {source.adapter}" if source.adapter else ""),
            code="does_not_fit",
        )


WRITERS: Mapping[str, Callable[[Source, Path, str | None, OnStage], Replayed]] = {
    "adapter": _adapter,
    "merged": _merged,
    "gguf": _gguf,
}
