"""A model out of Journeyman, as other tools load it: its adapter, merged weights, or a GGUF file.

A folder is written beside its place, replayed, and only then renamed into it: it exists whole and checked, or not at
all. What is replayed is read back from the files, by the same path as a user's (`load_base`, an adapter on its base)
or, for GGUF, from the metadata and tensors of the file alone.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from torch import nn
from transformers import AutoConfig

from journeyman import starter
from journeyman.errors import BaseNotFound, CheckpointError, ExportError
from journeyman.files import hash_file, read_json, sync_folder, write_json, write_text
from journeyman.models import replay
from journeyman.models.bases import STARTER, Base
from journeyman.models.card import BASE_CARD, card
from journeyman.models.llamacpp import families, tokenizer
from journeyman.models.llamacpp import read as gguf_read
from journeyman.models.llamacpp import write as gguf_write
from journeyman.models.publish import CHAT_FILES
from journeyman.models.registry import Version
from journeyman.models.rounding import BITS, DTYPES, WEIGHT_TYPES, round_model, stored_as
from journeyman.plan.shape import ModelShape
from journeyman.records import Example
from journeyman.text.template import ChatFormat
from journeyman.train import lora
from journeyman.train.load import load_base

FORMATS = ("adapter", "merged", "gguf")
RECORD_FILE = "export.json"
"""What was exported and how it was checked. Its presence marks a folder that `force` may replace."""

_FEW = 0.98
"""Below this share of unchanged likeliest tokens the user is told what rounding costs."""


@dataclass(frozen=True)
class Source:
    """What is exported: `folder` holds weights in transformers' format (the base's, or a full fine-tune's own).

    `adapter` is the LoRA folder on it, None for a base or a full fine-tune; `version` is None for a base.
    `examples` are replayed; without any, fixed texts are. `base_card` holds the base's licence.
    """

    id: str
    base: str
    base_fingerprint: str
    folder: Path
    adapter: Path | None = None
    version: Version | None = None
    base_card: Path | None = None
    examples: tuple[Example, ...] = ()


def source(version: Version | None, base: Base | None, examples: Sequence[Example] = ()) -> Source:
    """What to export: a base, a LoRA version with the base it stands on, or a fully tuned version (no base needed)."""
    rows = tuple(examples[: replay.MAX_ROWS])
    if version is None:
        assert base is not None, "either a version or a base is exported"
        return Source(base.name, base.name, base.fingerprint, base.folder, base_card=_card_of(base.folder), examples=rows)
    folder, adapter = (base.folder, version.folder) if base else (version.folder, None)
    card = _card_of(base.folder) if base else _card_of(starter.path()) if version.base == STARTER else None
    return Source(version.id, version.base, version.base_fingerprint, folder, adapter, version, card, rows)


def _card_of(base: Path) -> Path | None:
    return base / "README.md" if (base / "README.md").is_file() else None


@dataclass(frozen=True, slots=True)
class Export:
    """What came out: the folder, its files, and how far they answer from the model they were made of."""

    model: str
    format: str
    type: str
    folder: Path
    files: tuple[str, ...]
    replay: Mapping[str, Any]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The result as `--json` shows it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"folder": str(self.folder)}


@dataclass(frozen=True)
class _Replayed:
    """What a format's writer has to say: the type it wrote, the replay's numbers, remarks for the user."""

    type: str
    replay: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def export(
    source: Source,
    *,
    to: str,
    out: Path | None = None,
    dtype: str | None = None,
    force: bool = False,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Export:
    """Write `source` into the folder `out` in one of FORMATS, replay it, and publish it.

    `out` is by default named after model and format, in the current folder. `dtype` is one of WEIGHT_TYPES (q8_0 for GGUF only), by default the base's own. `force` replaces an earlier export,
    never anything else. Raises ExportError where the format can't hold this model exactly, where disk or memory does
    not suffice, or where the replay differs; then nothing is left behind.
    """
    writers = {"adapter": _adapter, "merged": _merged, "gguf": _gguf}
    if to not in writers:
        raise ExportError(f"there is no format {to!r}", where="--to", fix=f"use one of {', '.join(FORMATS)}")
    _check_type(to, dtype)
    out = (out or Path(f"{file_name(source.id)}-{to}")).expanduser().absolute()
    _check_place(out, force=force)
    _check_files(source)
    with _beside(out) as scratch:
        done = writers[to](source, scratch, dtype, on_stage)
        if source.base_card is not None:
            shutil.copyfile(source.base_card, scratch / BASE_CARD)
        files = {f.name: hash_file(f) for f in sorted(scratch.iterdir())}
        record = {
            "model": source.id,
            "format": to,
            "type": done.type,
            "base": source.base,
            "base_fingerprint": source.base_fingerprint,
            "dataset_hash": source.version.dataset_hash if source.version else None,
            "replay": dict(done.replay),
            "notes": list(done.notes),
            "files": files,
        }
        write_json(scratch / RECORD_FILE, record)
        write_text(scratch / "README.md", card(source.version, record))
        names = tuple(sorted(f.name for f in scratch.iterdir()))
        on_stage("publishing")
        _publish(scratch, out)
    return Export(source.id, to, done.type, out, names, done.replay, done.notes)


# ── the formats ───────────────────────────────────────────────────────────────────────────────────────────────────


def _adapter(source: Source, scratch: Path, dtype: str | None, on_stage: Callable[[str], None]) -> _Replayed:
    if source.adapter is None:
        raise ExportError(
            f"{source.id} has no adapter: " + ("all its weights were trained" if source.version else "it is a base"),
            where="--to adapter",
            fix="export with --to merged",
            code="export_unsupported",
        )
    _check_disk(scratch, sum(f.stat().st_size for f in source.adapter.iterdir()))
    _check_memory(source)
    on_stage("copying the adapter")
    for file in source.adapter.iterdir():
        shutil.copyfile(file, scratch / file.name)
    on_stage("replaying")
    model = load_base(source.folder)
    chat, rows = _rows(source, model)
    readings = []
    for name, folder in (("registered", source.adapter), ("exported", scratch)):
        lora.load_adapter(model, name, folder)
        lora.activate(model, name)
        readings.append(replay.read(model, rows))
    limit = replay.limit(replay.noise(model, rows, readings[1]))
    apart = replay.compare(*readings)
    replay.insist(apart, limit, "the copied adapter answers differently", where=str(scratch))
    return _Replayed("f32", _numbers(rows, apart, limit) | _tokens(source, chat, scratch))


def _merged(source: Source, scratch: Path, dtype: str | None, on_stage: Callable[[str], None]) -> _Replayed:
    dtype = dtype or own_type(source.folder)
    _check_disk(scratch, ModelShape.read(source.folder).params * BITS[dtype] / 8)
    loaded = _load(source, on_stage)
    expected = loaded.round(lambda shape: dtype)
    on_stage("writing")
    loaded.model.to(DTYPES[dtype]).save_pretrained(scratch)
    for name in (*CHAT_FILES, "generation_config.json", "tokenizer.model"):
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, scratch / name)
    if loaded.chat.plain:  # other tools must find the template that was trained with
        write_text(scratch / "chat_template.jinja", loaded.chat.template)
    loaded.free()
    on_stage("replaying")
    apart = replay.compare(expected, replay.read(load_base(scratch), loaded.rows))
    replay.insist(apart, loaded.limit, "the merged files answer differently", where=str(scratch))
    return loaded.result(dtype, expected, apart, _tokens(source, loaded.chat, scratch))


def _gguf(source: Source, scratch: Path, dtype: str | None, on_stage: Callable[[str], None]) -> _Replayed:
    gguf_write.library()
    dtype = dtype or own_type(source.folder)
    config = _config(source.folder)
    gguf_write.check_family(config)
    chat = ChatFormat.open(source.folder)
    vocabulary = tokenizer.vocabulary(chat, config.vocab_size)
    _check_disk(scratch, ModelShape.read(source.folder).params * BITS[dtype] / 8)
    loaded = _load(source, on_stage)
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
    replay.insist_on_tokens(texts, chat.ids, lambda t: rebuilt.encode(t, add_special_tokens=False).ids, where=str(path))
    if file.template != chat.template:
        raise ExportError("the GGUF file holds another chat template", where=str(path), code="replay_mismatch")
    notes = (*families.notes(config), *tokenizer.notes(chat, vocabulary))
    return loaded.result(dtype, expected, apart, {"texts": len(texts), "token_ids": "same"}, notes)


# ── the model while it is exported ────────────────────────────────────────────────────────────────────────────────


class _Loaded:
    """The model in fp32, its adapter added, and what it says of the rows."""

    def __init__(self, source: Source) -> None:
        self.model: Any = load_base(source.folder)
        self.chat, self.rows = _rows(source, self.model)
        if source.adapter is not None:
            lora.load_adapter(self.model, "exported", source.adapter)
            lora.activate(self.model, "exported")
        self.exact = replay.read(self.model, self.rows)
        self.limit = replay.limit(replay.noise(self.model, self.rows, self.exact))
        if source.adapter is not None:
            lora.merge_adapter(self.model, "exported")
            apart = replay.compare(self.exact, replay.read(self.model, self.rows))
            replay.insist(apart, self.limit, "adding the adapter changes the answers", where=str(source.adapter))

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
    ) -> _Replayed:
        """The replay's numbers, and a remark where rounding changed what the model would say."""
        cost = replay.compare(self.exact, expected)
        numbers = {**_numbers(self.rows, apart, self.limit), **tokens, "rounding": cost.as_dict()}
        if cost.same_likeliest < _FEW:
            share = 100 * (1 - cost.same_likeliest)
            notes = (*notes, f"rounding to {dtype} changes the likeliest token at {share:.0f}% of places; --type f32 keeps all")
        return _Replayed(dtype, numbers, tuple(notes))


def _load(source: Source, on_stage: Callable[[str], None]) -> _Loaded:
    _check_memory(source)
    on_stage("loading")
    return _Loaded(source)


def _rows(source: Source, model: Any) -> tuple[ChatFormat, list[list[int]]]:
    chat = ChatFormat.open(source.folder)
    return chat, replay.rows_for(source.examples, chat, families.context_tokens(model.config))


def _numbers(rows: Sequence[Sequence[int]], apart: replay.Difference, limit: float) -> dict[str, Any]:
    tokens = sum(len(row) - 1 for row in rows)
    return {"rows": len(rows), "tokens": tokens, "largest_difference": apart.largest, "limit": limit}


def _tokens(source: Source, chat: ChatFormat, folder: Path) -> dict[str, Any]:
    """The tokenizer and template of the exported folder, held against the served ones."""
    exported = ChatFormat.open(folder)
    texts = replay.texts_for(source.examples, exported)
    served = replay.texts_for(source.examples, chat)
    replay.insist_on_tokens(served, chat.ids, exported.ids, where=str(folder))
    if texts != served:
        raise ExportError("the exported chat template writes other prompts", where=str(folder), code="replay_mismatch")
    return {"texts": len(texts), "token_ids": "same"}


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
    return next((ours for ours, theirs in DTYPES.items() if str(theirs).removeprefix("torch.") == name), "f32")


def file_name(model: str) -> str:
    """A model's id as the name of a file or folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", model)


def _description(source: Source) -> str:
    if source.version is None:
        return f"The base model {source.base}"
    return f"{source.base}, fine-tuned ({source.version.method}) on the dataset {source.version.dataset_hash[:12]}"


# ── the place ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_type(to: str, dtype: str | None) -> None:
    allowed = {"adapter": (), "merged": tuple(DTYPES), "gguf": WEIGHT_TYPES}[to]
    if dtype is None or dtype in allowed:
        return
    if not allowed:
        raise ExportError("an adapter is copied as it is", where="--type", fix="leave --type out")
    raise ExportError(f"{dtype!r} is not a type of {to} weights", where="--type", fix=f"use one of {', '.join(allowed)}")


def _check_place(out: Path, *, force: bool) -> None:
    if out.suffix == ".gguf":
        raise ExportError(f"{out} names a file", where="--out", fix="name a folder: a card and a record lie beside the weights")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ExportError(f"{out} is not a folder", where="--out", fix="use a new name, or an empty folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not force:
        raise ExportError(
            f"{out} is not empty",
            where="--out",
            fix="use a new name, or --force to replace an earlier export",
            code="folder_not_empty",
        )
    if not (out / RECORD_FILE).is_file():
        raise ExportError(
            f"{out} holds something that is not an export",
            where="--out",
            fix="use a new name: --force replaces earlier exports only",
            code="folder_not_empty",
        )


def _check_files(source: Source) -> None:
    """What is exported must be what was registered."""
    if source.version is None:
        return
    folder = source.version.folder
    problems = [
        f"{name} is missing or was changed"
        for name, digest in source.version.files.items()
        if not (folder / name).is_file() or hash_file(folder / name) != digest
    ]
    if problems:
        raise CheckpointError(
            "the model's files are not the registered ones", where=str(folder), fix="train it again", problems=problems
        )


def _check_disk(scratch: Path, weights_bytes: float) -> None:
    needed, free = weights_bytes * 1.02 + 32 * 2**20, shutil.disk_usage(scratch).free
    if needed > free:
        raise ExportError(
            f"needs about {needed / 2**30:.2f} GiB of disk, and {free / 2**30:.2f} GiB are free",
            where=str(scratch.parent),
            fix="give --out on another disk, or a smaller --type",
            code="no_space",
        )


def _check_memory(source: Source) -> None:
    """Weights are merged and replayed in fp32, one model at a time; a quarter more for logits and copies."""
    needed, free = ModelShape.read(source.folder).params * 4 * 1.25, psutil.virtual_memory().available
    if needed > free:
        raise ExportError(
            f"needs about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free",
            where=str(source.folder),
            fix="export on a machine with more memory" + (f"; the adapter lies in {source.adapter}" if source.adapter else ""),
            code="does_not_fit",
        )


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, gone at the end whatever happens; so are those of exports that were killed."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for folder in out.parent.iterdir():
            if _is_abandoned(folder, out):
                shutil.rmtree(folder, ignore_errors=True)
        scratch = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.exporting")
        scratch.mkdir()
    except OSError as error:
        raise ExportError(f"can't write there: {error}", where=str(out.parent), fix="give --out elsewhere") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_abandoned(folder: Path, out: Path) -> bool:
    """Whether this is what a killed export to `out` left: its process is gone, or another bears its number."""
    match = re.fullmatch(rf"\.{re.escape(out.name)}\.(\d+)-[0-9a-f]{{8}}\.exporting", folder.name)
    if match is None:
        return False
    try:
        return psutil.Process(int(match[1])).create_time() > folder.stat().st_mtime
    except psutil.NoSuchProcess:
        return True


def _publish(scratch: Path, out: Path) -> None:
    """Put the finished folder into its place; an earlier export gives way to it."""
    for file in scratch.iterdir():
        shutil.copymode(scratch / RECORD_FILE, file)  # safetensors writes for the owner's eyes only
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    sync_folder(scratch)
    former = scratch.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.exporting")
    if out.exists():
        out.rename(former)
    scratch.rename(out)
    sync_folder(out.parent)
    shutil.rmtree(former, ignore_errors=True)
