"""What all tests share: tiny models, built once a session, and a fixed number of threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["OMP_NUM_THREADS"] = "1"  # the same sums in the same order everywhere; also for subprocesses
os.environ["HF_HUB_OFFLINE"] = "1"

settings.register_profile("steady", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("thousands", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("steady")

Bases = Callable[..., Path]


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    """A tiny random-weight model's folder by family and template, built when first asked for."""
    import tiny

    root = tmp_path_factory.mktemp("bases")

    def base(family: str = "llama", template: str | None = tiny.CHATML) -> Path:
        key = next((name for name, text in tiny.TEMPLATES.items() if text == template), "plain")
        folder = root / f"{family}-{key}"
        if not folder.is_dir():
            tiny.write_base(folder, family, template)
        return folder

    return base
