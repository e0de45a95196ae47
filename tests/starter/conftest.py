"""Finds the recipe (top-level `starter/`), the package, and, where they are, the corpus and the benchmarks."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def shared(name: str) -> Path:
    folder = Path(os.environ.get("JOURNEYMAN_SHARED", ROOT.parent / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; set JOURNEYMAN_SHARED to the folder that holds {name}/")
    return folder


@pytest.fixture(scope="session")
def corpus() -> Path:
    return shared("corpus")


@pytest.fixture(scope="session")
def bench() -> Path:
    return shared("bench")


@pytest.fixture(scope="session")
def bench_text(bench):
    from starter.decontaminate import BenchText

    return BenchText.read(bench)


@pytest.fixture(scope="session")
def package() -> Path:
    from journeyman import starter

    if not (starter.path() / "model.safetensors").exists():
        pytest.skip(f"{starter.path()} holds no weights; run starter.package")
    return starter.path()
