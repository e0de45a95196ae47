"""What a container or a service may use of its machine: Linux' control groups, version 1 and 2.

A limit that the kernel sets for a group holds for all groups below it, so that each level up to the root is looked at; in a
container the root is the container's own. Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the tightest groups leave; None where there is no limit. `cores` is processor time a second, 0.5 for half a core."""

    memory_bytes: int | None = None
    free_bytes: int | None = None
    cores: float | None = None


def limits(root: Path = ROOT, own: Path = OWN) -> Limits:
    """The limits of this process's groups; none where the system has no control groups, or they can't be read."""
    memory = [known for folder in _folders(root, own, "memory") if (known := _memory(folder))]
    cores = [quota for folder in _folders(root, own, "cpu") if (quota := _cores(folder)) is not None]
    return Limits(
        min((limit for limit, _ in memory), default=None),
        min((max(0, limit - used) for limit, used in memory), default=None),
        min(cores, default=None),
    )


def _folders(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """This process's group and all above it, for version 2 and for version 1's `controller`, as far as they are there."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if number == "0":
            mount = root
        elif controller in controllers.split(","):
            mount = root / controller
        else:
            continue
        # In a container the path is often the host's, of which only the container's own root is to be seen.
        group = mount / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount) and folder.is_dir())


def _memory(folder: Path) -> tuple[int, int] | None:
    """(limit, used without what the kernel would drop first), in bytes."""
    for limit_file, used_file, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _number(folder / limit_file), _number(folder / used_file)
        if limit is not None and used is not None:
            return limit, used - _stat(folder / "memory.stat", dropped)
    return None


def _cores(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        return quota_us / period_us if quota_us and period_us and quota_us > 0 else None


def _number(file: Path) -> int | None:
    """A file's number; None where it has none, such as "max"."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _stat(file: Path, name: str) -> int:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(value) for key, _, value in (line.partition(" ") for line in lines) if key == name and value.isdigit()), 0)
