"""Where an export goes: beside its place first, and into it when it is whole."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from journeyman.errors import ExportError
from journeyman.files import sync_folder

RECORD_FILE = "export.json"
"""What was exported and how it was checked. Its presence marks a folder that `force` may replace."""


def check_place(out: Path, *, force: bool) -> None:
    """Raises ExportError where `out` holds anything; `force` allows it to hold an earlier export."""
    if out.suffix == ".gguf":
        raise ExportError(
            f"{out} names a file",
            where="--out",
            fix="name a folder: a card and a record lie beside the weights",
        )
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


def check_disk(scratch: Path, weights_bytes: float) -> None:
    """Raises ExportError where the disk has no room for these weights and the small files beside them."""
    needed, free = weights_bytes * 1.02 + 32 * 2**20, shutil.disk_usage(scratch).free
    if needed > free:
        raise ExportError(
            f"needs about {needed / 2**30:.2f} GiB of disk, and {free / 2**30:.2f} GiB are free",
            where=str(scratch.parent),
            fix="give --out on another disk, or a smaller --type",
            code="no_space",
        )


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, gone at the end whatever happens; so are those of exports that were killed."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for folder in out.parent.iterdir():
            if _is_abandoned(folder, out):
                shutil.rmtree(folder, ignore_errors=True)
        scratch = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.exporting")
        scratch.mkdir()
    except OSError as error:
        raise ExportError(
            f"can't write there: {error}", where=str(out.parent), fix="give --out elsewhere"
        ) from error
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
        return float(psutil.Process(int(match[1])).create_time()) > folder.stat().st_mtime
    except psutil.NoSuchProcess:
        return True


def publish(scratch: Path, out: Path) -> None:
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
