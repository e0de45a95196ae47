"""The python grader: what it gives, and what its source can't do."""

from __future__ import annotations

import shutil
import socket

import pytest

from journeyman.errors import GraderError
from journeyman.grade import python
from journeyman.grade.parse import parse
from journeyman.grade.score import Sample

needs_sandbox = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap (bwrap)")


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
