"""What the kernel's control groups leave a process, in both of their versions, in a container and in a service."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from journeyman.plan import cgroup, machine
from journeyman.plan.cgroup import Limits, limits

GB = 10**9


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def groups(tmp_path: Path, text: str) -> Path:
    own = tmp_path / "self"
    own.write_text(text)
    return own


def test_a_container_of_version_2_sees_its_limits_at_the_root(tmp_path):
    root = tmp_path / "cgroup"
    write(root, memory__max=4 * GB, memory__current=3 * GB, cpu__max="150000 100000", memory__stat=f"anon 1\ninactive_file {GB}")
    assert limits(root, groups(tmp_path, "0::/\n")) == Limits(4 * GB, 2 * GB, 1.5)


def test_the_tightest_of_all_groups_above_holds(tmp_path):
    root = tmp_path / "cgroup"
    write(root / "system.slice", memory__max=2 * GB, memory__current=GB, cpu__max="max 100000")
    write(root / "system.slice" / "journeyman.service", memory__max="max", memory__current=GB // 2, cpu__max="50000 100000")
    assert limits(root, groups(tmp_path, "0::/system.slice/journeyman.service\n")) == Limits(2 * GB, GB, 0.5)


def test_version_1_has_a_tree_for_each_controller(tmp_path):
    root = tmp_path / "cgroup"
    write(root / "memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=5 * GB)
    write(root / "memory" / "docker" / "ab", memory__limit_in_bytes=GB, memory__usage_in_bytes=GB + 5, memory__stat="total_inactive_file 5")
    write(root / "cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    write(root / "cpu" / "docker" / "ab", cpu__cfs_quota_us=200000, cpu__cfs_period_us=100000)
    own = groups(tmp_path, "4:memory:/docker/ab\n2:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n")
    assert limits(root, own) == Limits(GB, 0, 2.0)
    # The path is the host's, and only the container's own root is to be seen.
    write(root / "memory", memory__limit_in_bytes=GB, memory__usage_in_bytes=0)
    assert limits(root, groups(tmp_path, "4:memory:/elsewhere/cd\n")) == Limits(GB, GB, None)


@pytest.mark.parametrize("text", ["", "0::/\n", "nonsense\n", "0::/../../etc\n"])
def test_where_there_are_no_groups_or_limits_there_is_no_limit(tmp_path, text):
    write(tmp_path / "cgroup", memory__max="max", memory__current=5, cpu__max="", memory__stat="")
    assert limits(tmp_path / "cgroup", groups(tmp_path, text)) == Limits()
    assert limits(tmp_path / "none", tmp_path / "gone") == Limits()


def test_a_plan_and_a_server_count_on_what_the_container_has(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "limits", lambda: Limits(2 * GB, GB, 0.5))
    found = machine.probe(tmp_path)
    assert (found.cores, found.memory_bytes, found.free_memory_bytes) == (1, 2 * GB, GB)
    monkeypatch.setattr(cgroup, "limits", Limits)
    found = machine.probe(tmp_path)
    assert found.memory_bytes == psutil.virtual_memory().total and found.cores >= 1
