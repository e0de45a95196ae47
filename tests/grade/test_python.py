"""The python grader: what it gives, and what its source can't do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from journeyman.errors import GraderError
from journeyman.grade import python
from journeyman.grade.parse import parse, runs_source
from journeyman.grade.score import Sample

needs_sandbox = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap (bwrap)")

FAKE = """#!/bin/sh
# Stands for bubblewrap: writes down what it was given, and runs the command without a sandbox.
tr '\\0' '\\n' < /proc/$$/environ > "{folder}/environ"
pwd > "{folder}/cwd"
for file in /proc/$$/fd/*; do readlink $file; done > "{folder}/files"
printf '%s\\n' "$@" > "{folder}/arguments"
for argument; do [ "$argument" = "{python}" ] && [ "$1" = "{python}" ] && exec "$@"; shift; done
"""


def grader(source, **more):
    (parsed,) = parse([{"type": "python", "name": "own", "source": source, "image_tag": "2025-05-08", **more}])
    return parsed


@pytest.fixture
def on(monkeypatch):
    monkeypatch.setenv("JOURNEYMAN_PYTHON_GRADERS", "on")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def grade(sample, item) return 1", "is no Python"),
        ("def score(sample, item):\n    return 1", "has no function grade"),
        ("x = '" + "a" * 256_000 + "'", "longer than"),
        ("\0", "is no Python"),
    ],
)
def test_a_source_that_can_not_be_called_is_named_and_not_run(source, said):
    with pytest.raises(GraderError) as caught:
        grader(source)
    assert "source" in caught.value.problems[0] and said in caught.value.problems[0]


def test_it_is_off_unless_it_is_turned_on(tmp_path, monkeypatch):
    monkeypatch.delenv("JOURNEYMAN_PYTHON_GRADERS", raising=False)
    score = grader(f"open({str(tmp_path / 'x')!r}, 'w')\ndef grade(sample, item):\n    return 1.0").grade(Sample(""), {})
    assert score.value is None and "JOURNEYMAN_PYTHON_GRADERS" in score.error
    assert not (tmp_path / "x").exists()


@needs_sandbox
def test_it_grades_with_the_packages_of_this_interpreter(on):
    source = (
        "from rapidfuzz import fuzz\n"
        "def grade(sample, item):\n"
        "    print('noise')\n"
        "    return fuzz.ratio(sample['output_text'], item['ideal']) / 100 * sample['output_json']['weight']\n"
    )
    own = grader(source, pass_threshold=0.4)
    text = '{"weight": 0.5}'
    assert (own.grade(Sample(text), {"ideal": text}).value, own.grade(Sample(text), {"ideal": text}).passed) == (0.5, True)
    assert own.grade(Sample(text), {"ideal": "-"}).passed is False
    inside = {"type": "multi", "name": "m", "graders": {"a": dict(own.source)}, "calculate_output": "a * 2"}
    assert parse([inside])[0].grade(Sample(text), {"ideal": text}).value == 1.0


@needs_sandbox
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero (line 2)"),
        ("return 'good'", "'good', which is no number"),
        ("return float('nan')", "no number"),
        ("return True", "no number"),
        ("return 10**400", "no number"),
        ("return object()", "TypeError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import os; os._exit(0)", "no value"),
        ("return bytearray(3 << 30)[0]", "MemoryError"),
    ],
)
def test_what_goes_wrong_is_no_score(on, body, said):
    score = grader(f"def grade(sample, item):\n    {body}").grade(Sample("x"), {})
    assert (score.value, score.passed) == (None, None) and said in score.error


@needs_sandbox
def test_one_that_never_ends_is_ended(on, monkeypatch):
    monkeypatch.setattr(python, "MAX_S", 1.0)
    score = grader("def grade(sample, item):\n    while True: pass").grade(Sample(""), {})
    assert score.value is None and "1 s" in score.error


@needs_sandbox
def test_it_reaches_neither_the_network_nor_the_machine_s_files_nor_its_processes(on, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    (tmp_path / "secret.txt").write_text("s3cret")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        source = f"""
import os, socket
def works(action):
    try:
        action()
    except OSError:
        return False
    return True
def grade(sample, item):
    found = [
        works(lambda: socket.create_connection(("127.0.0.1", {port}), 1)),
        works(lambda: socket.create_connection(("192.0.2.1", 80), 1)),
        works(lambda: open({str(tmp_path / "secret.txt")!r})),
        works(lambda: open("/etc/passwd")),
        works(lambda: open("/usr/written", "w")),
        works(lambda: open(os.path.join(os.path.dirname(os.__file__), "written"), "w")),
        "SECRET" in os.environ,
        len([p for p in os.listdir("/proc") if p.isdigit()]) > 3,
        not works(lambda: open(os.path.expanduser("~/scratch"), "w")),
    ]
    return sum(2 ** i for i, yes in enumerate(found) if yes)
"""
        assert grader(source).grade(Sample(""), {}).value == 0


@needs_sandbox
def test_no_process_of_the_sandbox_has_anything_of_the_server_s(on, monkeypatch):
    monkeypatch.setenv("JOURNEYMAN_API_KEY", "sk-s3cret")
    source = """
import glob
def grade(sample, item):
    texts = [open(path, "rb").read() for name in ("environ", "cmdline") for path in glob.glob(f"/proc/[0-9]*/{name}")]
    rights = [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapPrm", "CapBnd"))]
    assert len(texts) >= 4 and len(rights) == 3
    return any(b"s3cret" in text or b"JOURNEYMAN" in text for text in texts) + 2 * any(int(right, 16) for right in rights)
"""
    assert grader(source).grade(Sample(""), {}).value == 0


@needs_sandbox
@pytest.mark.parametrize("place", ["/x", "/dev/x"])
def test_nothing_is_written_but_what_is_bounded(on, place):
    score = grader(f"def grade(sample, item):\n    open({place!r}, 'w')").grade(Sample(""), {})
    assert score.value is None and "Read-only" in score.error


@needs_sandbox
def test_a_home_within_the_interpreter_s_folder_is_hidden(on, monkeypatch, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "journeyman.db").write_text("s3cret")
    monkeypatch.setattr(python, "_SYSTEM", (*python._SYSTEM, str(tmp_path)))
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path / "home"))
    source = f"import os\ndef grade(sample, item):\n    return len(os.listdir({str(tmp_path / 'home')!r}))"
    assert grader(source).grade(Sample(""), {}).value == 0


@pytest.fixture
def fake(on, monkeypatch, tmp_path):
    """A bubblewrap that is none, first on the PATH: what it was started with."""
    bwrap = tmp_path / "bwrap"
    bwrap.write_text(FAKE.format(folder=tmp_path, python=sys.executable))
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_bubblewrap_is_started_with_nothing_of_the_server_s(fake, monkeypatch):
    """It is pid 1 of the sandbox, where /proc/1 shows its environment, its folder and its open files."""
    monkeypatch.setenv("JOURNEYMAN_API_KEY", "sk-s3cret")
    with (fake / "open").open("w") as open_here:
        os.set_inheritable(open_here.fileno(), True)
        assert grader("def grade(sample, item):\n    return 0.5").grade(Sample(""), {}).value == 0.5
    names = {line.partition("=")[0] for line in (fake / "environ").read_text().split("\n")}
    assert names <= {"", "PWD", "OLDPWD", "SHLVL", "_"}, "those of the shell itself at most"
    assert (fake / "cwd").read_text() == "/\n"
    files = (fake / "files").read_text().split("\n")
    assert "/dev/null" in files and str(fake / "open") not in files
    arguments = (fake / "arguments").read_text().split("\n")
    assert {"--unshare-all", "--proc", "--clearenv"} <= set(arguments)
    assert arguments[arguments.index("--cap-drop") + 1] == "ALL"
    assert "s3cret" not in " ".join(arguments)


@pytest.mark.parametrize("printed", ["[" * 60_000, '{"error": ' + json.dumps("x" * 60_000) + "}", "x" * 200_000])
def test_what_a_process_prints_in_place_of_a_result_is_no_score(fake, printed):
    source = f"import os\ndef grade(sample, item):\n    os.write(1, {printed!r}.encode())\n    os._exit(0)"
    score = grader(source).grade(Sample(""), {})
    assert score.value is None and len(score.error) <= 600


def test_why_no_source_can_be_run_here(fake, monkeypatch):
    assert python.unavailable() is None
    (fake / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    assert "no sandbox here" in python.unavailable()
    (fake / "bwrap").write_text("no program")
    assert python.unavailable()
    monkeypatch.setenv("PATH", str(fake / "empty"))
    assert "not installed" in python.unavailable()
    monkeypatch.setenv("JOURNEYMAN_PYTHON_GRADERS", "off")
    assert "JOURNEYMAN_PYTHON_GRADERS" in python.unavailable()


def test_a_name_may_be_left_out():
    """As OpenAI's guide has it (https://platform.openai.com/docs/guides/graders#python-grader)."""
    bare = {"type": "python", "source": "def grade(sample, item):\n    return 1"}
    (parsed,) = parse([bare])
    assert parsed.name == "python"
    (multi,) = parse([{"type": "multi", "name": "m", "graders": [bare], "calculate_output": "python * 2"}])
    assert runs_source(multi.source) and runs_source(parsed.source)
    with pytest.raises(GraderError):
        parse([{**bare, "name": ""}])
