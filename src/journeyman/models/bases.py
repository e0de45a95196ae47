"""Base models: the bundled starter, a local folder, or a hub id that is in the local cache (or can be fetched)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from journeyman import starter
from journeyman.errors import BaseNotFound
from journeyman.files import hash_bytes, hash_file

STARTER = "starter-1"
ALIASES: Mapping[str, str] = {"starter": STARTER}

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
"""What is fetched of a hub model: no code, no pickled weights."""


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on this machine.

    `name` is what model ids carry, `source` how the base is found again (its name, hub id or folder), and
    `fingerprint` tells whether its content is still the same.
    """

    name: str
    source: str
    folder: Path
    fingerprint: str


def resolve(base: str, *, fetch: bool = True) -> Base:
    """Find a base by alias, folder or hub id; a hub model that is not here is fetched, unless `fetch` forbids it.

    Raises BaseNotFound, naming what was tried, where it is not here and can't be fetched, or with the code
    `base_not_fetched` where it was not tried.
    """
    name = ALIASES.get(base, base)
    if name == STARTER:
        return _local(STARTER, STARTER, starter.path())
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _local(_name_of(folder), str(folder.absolute()), folder.absolute())
    if HUB_ID.fullmatch(name):
        return _local(name, name, from_hub(name, fetch=fetch))
    raise BaseNotFound(
        f"no base model {base!r}",
        where="base",
        fix="use 'starter', the folder of a model in transformers' format, or a hub id such as Qwen/Qwen3-0.6B",
    )


def _local(name: str, source: str, folder: Path) -> Base:
    if not (folder / "config.json").is_file():
        raise BaseNotFound("no config.json in the model's folder", where=str(folder))
    return Base(name, source, folder, _fingerprint(folder))


def _name_of(folder: Path) -> str:
    """The folder's name with what a model id can't hold replaced."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", folder.resolve().name)


def _fingerprint(folder: Path) -> str:
    """A hash of the small files and of each weight file's header and size: reading all weights would take minutes."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix in (".safetensors", ".json", ".jinja")]
    stats = [file.stat() for file in files]
    lines = (_line(f, s.st_size, s.st_mtime_ns, s.st_ino) for f, s in zip(files, stats, strict=True))
    return hash_bytes("\n".join(lines).encode())


@lru_cache(maxsize=4096)
def _line(file: Path, size: int, mtime_ns: int, inode: int) -> str:
    """What a file adds to the fingerprint; read again only when it has changed, since every request asks."""
    if file.suffix != ".safetensors":
        return f"{file.name} {hash_file(file)}"
    with file.open("rb") as stream:
        return f"{file.name} {size} {hash_bytes(stream.read(1 << 20))}"


def from_hub(name: str, *, fetch: bool = True, where: str = "base") -> Path:
    """The model's folder in the hub cache, fetched only where it is not there yet: no code, no pickled weights.

    Raises BaseNotFound as `resolve` does.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=True))
    except LocalEntryNotFoundError:
        if not fetch:
            fix = "`journeyman plan` fetches it"
            raise BaseNotFound(f"{name} is not on this machine yet", fix=fix, code="base_not_fetched") from None
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BaseNotFound(
            f"{name} is not in the local hub cache and can't be fetched: {str(error).splitlines()[0]}",
            where=where,
            fix="check the id and the network, or give the folder of a downloaded copy",
        ) from error
