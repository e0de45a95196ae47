from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import openai
import pytest

from journeyman.models.bases import resolve
from journeyman.models.registry import Version
from journeyman.workspace import Workspace

from . import sdk_types
from .scripted import serving

sdk_types.complete()


@dataclass(frozen=True)
class Running:
    """A server that answers, the folder of its tiny base, and its workspace."""

    url: str
    base: Path
    workspace: Workspace

    def client(self, api_key: str = "sk-any") -> openai.OpenAI:
        """The SDK, told to refuse every response that does not fit its own types."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=api_key, max_retries=0, timeout=60, _strict_response_validation=True
        )


@contextmanager
def running(home: Path, base: Path, *, keys: tuple[str, ...] = ()) -> Iterator[Running]:
    workspace = Workspace(home)
    workspace.settings = replace(workspace.settings, api_keys=keys)
    with serving(workspace, bases=[str(base)]) as url:
        yield Running(url, base, workspace)


def add_version(workspace: Workspace, base: Path, model_id: str, job: str | None = None) -> Version:
    """Register a copy of the base as a fully fine-tuned model of that id, made by a job of that id."""
    folder = workspace.settings.jobs_folder / model_id.rpartition(":")[2] / "model"
    shutil.copytree(base, folder)
    found = resolve(str(base))
    return workspace.registry.add(
        Version(
            id=model_id,
            job=job or f"ftjob-{model_id.rpartition(':')[2]}",
            base=found.name,
            base_source=found.source,
            base_fingerprint=found.fingerprint,
            dataset_hash="0" * 64,
            method="full",
            plan={"choices": {}},
            metrics={},
            files={},
            folder=folder,
            created_at=1_700_000_000.0,
        )
    )


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, bases: Callable[..., Path]) -> Path:
    """A tiny Llama whose folder, and so whose id, is `tiny`."""
    return shutil.copytree(bases("llama"), tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("home"), base) as it:
        yield it


@pytest.fixture(scope="session")
def client(server: Running) -> openai.OpenAI:
    return server.client()
