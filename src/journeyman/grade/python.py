"""OpenAI's python grader: `grade(sample, item)` of a user's source, run where it can do no harm.

Each call is a process of its own in a bubblewrap sandbox (https://github.com/containers/bubblewrap): no network, the
interpreter and its packages readable and nothing else of the machine, an empty home that is gone afterwards, no rights
even where the server is root, nothing of the server's environment, bounded time, memory and files. Off unless JOURNEYMAN_PYTHON_GRADERS is on: even so it is somebody's code on your machine.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from journeyman import settings
from journeyman.grade.fields import Fields
from journeyman.grade.score import Item, Measure, Measured, NotMeasurableError, Sample

MAX_SOURCE_BYTES = 256_000
"""OpenAI's bound, as are those on time and memory."""
MAX_S = 120.0
MAX_MEMORY_BYTES = 2 * 2**30
MAX_FILE_BYTES = 64 * 2**20
MAX_SAID_BYTES = 64 * 1024
"""What is read of a call's result: a number, or an error in a few words."""

PROBE_S = 10.0
"""How long an empty sandbox may take to start and end."""

_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")

_CALL = """
import json, resource, sys, traceback
given = json.load(sys.stdin)
for name, most in given["limits"].items():
    resource.setrlimit(getattr(resource, name), (most, most))
out, sys.stdout = sys.stdout, sys.stderr
try:
    space = {"__name__": "grader"}
    exec(compile(given["source"], "grader", "exec"), space)
    said = {"value": space["grade"](given["sample"], given["item"])}
    json.dumps(said)
except BaseException as error:
    places = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "grader"]
    place = f" (line {places[-1]})" if places else ""
    said = {"error": f"{type(error).__name__}: {error}"[:500] + place}
print(json.dumps(said), file=out)
"""


def python(fields: Fields) -> Measure:
    """OpenAI's python; `pass_threshold` is ours outside of evals. `image_tag` is read and has no effect: there is one image."""
    source = fields.text("source")
    fields.text("image_tag", "")
    threshold = fields.number("pass_threshold")
    wrong = _wrong(source) if source else None
    if wrong is not None:
        fields.problem("source", wrong, "write def grade(sample, item) that returns a number")

    def measure(sample: Sample, item: Item) -> Measured:
        value = _call(source, sample, item)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            raise NotMeasurableError(f"grade gave {value!r:.60}, which is no number")
        return Measured(float(value), None if threshold is None else value >= threshold)

    return measure


def _wrong(source: str) -> str | None:
    """What keeps the source from being called, or None. It is read here and never run."""
    if len(source.encode("utf-8", "replace")) > MAX_SOURCE_BYTES:
        return f"is longer than {MAX_SOURCE_BYTES:,} bytes"
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        return f"is no Python: {getattr(error, 'msg', error)}" + (f" (line {line})" if line else "")
    if not any(isinstance(node, ast.FunctionDef) and node.name == "grade" for node in tree.body):
        return "has no function grade"
    return None


def unavailable() -> str | None:
    """Why no source can be run here, or None where a sandbox was begun and ended."""
    try:
        with TemporaryFile() as out:
            status = _inside("pass", b"", out, PROBE_S)
    except (NotMeasurableError, OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    # Some systems let no user make namespaces, Docker's default and Ubuntu's AppArmor among them.
    return f"bubblewrap (bwrap) can make no sandbox here: it ended with status {status}" if status else None


def _call(source: str, sample: Sample, item: Item) -> Any:
    """What `grade` returns. Raises NotMeasurableError where it may not run, fails, or takes too much."""
    given = {
        "source": source,
        "sample": _seen(sample),
        "item": dict(item),
        "limits": {
            "RLIMIT_AS": MAX_MEMORY_BYTES, "RLIMIT_CPU": int(MAX_S), "RLIMIT_FSIZE": MAX_FILE_BYTES,
            "RLIMIT_CORE": 0, "RLIMIT_NPROC": 64,
        },
    }  # fmt: skip
    # Into a file, whose size the kernel bounds, and not through a pipe into our memory.
    with TemporaryFile() as out:
        try:
            status = _inside(_CALL, json.dumps(given).encode(), out, MAX_S)
        except subprocess.TimeoutExpired:
            raise NotMeasurableError(f"grade did not end within {MAX_S:.0f} s") from None
        out.seek(0)
        text = out.read(MAX_SAID_BYTES)
    try:
        said = json.loads(text)
        if "error" in said:
            raise NotMeasurableError(f"grade failed: {said['error']}"[:600])
        return said["value"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise NotMeasurableError(f"the process of grade ended with status {status} and no value") from None


def _inside(code: str, given: bytes, out: IO[bytes], most_s: float) -> int:
    """Run code of ours in the sandbox; its status. Raises NotMeasurableError where that is off or bubblewrap is missing."""
    if not settings.python_graders():
        raise NotMeasurableError("python graders are off; set JOURNEYMAN_PYTHON_GRADERS=on to run their source here")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise NotMeasurableError("python graders need bubblewrap (bwrap), which is not installed here")
    # bubblewrap itself is a process of the sandbox (pid 1), so that what it holds can be read there, in /proc/1.
    return subprocess.run(
        [bwrap, *_walls(), sys.executable, "-I", "-B", "-c", code],
        input=given, stdout=out, stderr=subprocess.DEVNULL, timeout=most_s, check=False,
        env={}, cwd="/", close_fds=True,
    ).returncode  # fmt: skip


def _seen(sample: Sample) -> dict[str, Any]:
    """A sample as OpenAI gives it to a python grader; `output_json` is None where the text is no JSON."""
    try:
        as_json = json.loads(sample.output_text)
    except (ValueError, RecursionError):
        as_json = None
    return {
        "output_text": sample.output_text,
        "output_json": as_json,
        "output_tools": [dict(call) for call in sample.output_tools],
    }


def _walls() -> list[str]:
    """bubblewrap's arguments: nothing shared with the machine, and of its files only what an interpreter needs."""
    readable = [path for path in (*_SYSTEM, sys.base_prefix, sys.prefix) if Path(path).exists()]
    home = settings.load().home  # which may lie below one of them, in the folder of a virtual environment for example
    return [
        "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv",
        "--setenv", "HOME", "/tmp", "--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "OMP_NUM_THREADS", "1",
        "--proc", "/proc", "--dev", "/dev",
        *(argument for path in ("/tmp", "/dev/shm") for argument in ("--size", str(MAX_FILE_BYTES), "--tmpfs", path)),
        *(argument for path in dict.fromkeys(readable) for argument in ("--ro-bind", path, path)),
        *(("--tmpfs", str(home), "--remount-ro", str(home)) if any(home.is_relative_to(p) for p in readable) and home.is_dir() else ()),
        "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp",
    ]  # fmt: skip
