"""Whatever is in a training file, its job ends in words that name line and key; the benchmark takes thousands of files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "mutated_files.py"


@pytest.fixture(scope="module")
def mutated_files() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutated_files", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutated_files"] = module
    spec.loader.exec_module(module)
    return module


def test_every_broken_file_ends_with_its_line_and_key(mutated_files, tmp_path):
    files = mutated_files.Files(tmp_path)
    kinds = set()
    for seed in range(300):
        file = mutated_files.mutated(seed)
        error = files.error(file.data)
        kinds.add(file.kind)
        assert mutated_files.complaint(file, error) is None, (seed, file.kind, file.line, file.key, error)
    assert kinds == {*mutated_files.CHANGES, *mutated_files.LINES, *mutated_files.FREE}


def test_a_good_file_fits_and_the_queue_tells_what_reading_does(mutated_files, tmp_path):
    files = mutated_files.Files(tmp_path)
    good = "\n".join(
        mutated_files.json.dumps(mutated_files.good(n)) for n in range(mutated_files.ROWS)
    ).encode()
    assert files.error(good)["code"] == files.error_by_queue(good)["code"] == "fits"
    for seed in range(3):
        data = mutated_files.mutated(seed).data
        assert files.error_by_queue(data) == files.error(data)
