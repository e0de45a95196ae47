"""The models that clients may name. An id is looked up here and is never taken for a folder or a hub id."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from journeyman.api.errors import RefusedError
from journeyman.errors import BaseNotFound, ModelNotFound
from journeyman.models.bases import ALIASES, STARTER, Base, resolve
from journeyman.storage.documents import DEFAULT_PROJECT

if TYPE_CHECKING:
    from journeyman.models.registry import Version
    from journeyman.workspace import Workspace


@dataclass(frozen=True, slots=True)
class CallableModel:
    """A name that can be called.

    `id` is the model that answers (an alias has its target's), `source` what the workspace finds it by.
    """

    name: str
    id: str
    source: str
    kind: Literal["base", "tuned", "alias", "checkpoint"]
    created_at: float
    owner: str


class Catalogue:
    """What can be called: the starter, bases the server's owner named, bases of fine-tunes, fine-tunes, aliases.

    A base is everybody's. A fine-tuned model, its aliases and checkpoints are for the project whose job made it, for
    projects with a permission, and for the default project, which is the server's owner. To others there is no such model.

    The owner's NAME=BASE lets BASE be called and fine-tuned as NAME: the name that stands in scripts written for another
    server. Raises BaseNotFound where a base that the owner named is not here, or its new name is another base's.
    """

    def __init__(self, workspace: Workspace, bases: Sequence[str] = ()) -> None:
        self._workspace = workspace
        self._bases = _named([STARTER, *bases])

    def all(self, project: str) -> list[CallableModel]:
        """Every name that a project can call, once: bases first, then fine-tunes from the newest, aliases, and checkpoints."""
        org, checkpoints = self._workspace.settings.org, self._workspace.checkpoint_models()
        known = self._known() + [CallableModel(name, name, name, "checkpoint", at, org) for name, _, at in checkpoints]
        if project == DEFAULT_PROJECT:
            return known
        owners = {**self._workspace.registry.projects(), **{name: job.project for name, job, _ in checkpoints}}
        given = self._workspace.permissions.given_to(project)

        def callable_here(entry: CallableModel) -> bool:
            owner = owners.get(entry.id) or DEFAULT_PROJECT
            return entry.kind == "base" or owner == project or (owner, entry.id) in given

        return [entry for entry in known if callable_here(entry)]

    def _known(self) -> list[CallableModel]:
        versions = self._workspace.registry.list()
        org = self._workspace.settings.org
        entries = {entry.name: entry for entry in self._bases}
        for version in reversed(versions):
            entries.setdefault(version.base, _base_of(version))
        for version in versions:
            entries[version.id] = CallableModel(
                version.id, version.id, version.id, "tuned", version.created_at, org
            )
        for alias, target in self._workspace.registry.aliases().items():
            if target in entries:
                created_at = entries[target].created_at
                entries.setdefault(alias, CallableModel(alias, target, target, "alias", created_at, org))
        return list(entries.values())

    def find(self, name: str, project: str) -> CallableModel:
        """What a project can call by a name. Raises ModelNotFound in OpenAI's words.

        Every request asks, so that nothing but the one model is looked up, however many there are.
        """
        wanted = ALIASES.get(name, name)
        for entry in self._bases:
            if entry.name == wanted:
                return entry
        found = self._checkpoint(name) if ":ckpt-step-" in name else self._registered(wanted)
        if found is not None and self._callable_by(project, found):
            return found
        shown = name if len(name) <= 200 else name[:200] + "…"
        raise ModelNotFound(
            f"The model `{shown}` does not exist or you do not have access to it.", where="model"
        )

    def _registered(self, name: str) -> CallableModel | None:
        """A fine-tuned model by its id, the base of one, or one by its alias."""
        registry, org, version = self._workspace.registry, self._workspace.settings.org, None
        with suppress(ModelNotFound):
            version = registry.get(name)
        if version is not None and version.id == name:
            return CallableModel(name, name, name, "tuned", version.created_at, org)
        if (first := registry.oldest_of(name)) is not None:
            return _base_of(first)
        return None if version is None else CallableModel(name, version.id, version.id, "alias", version.created_at, org)

    def _checkpoint(self, name: str) -> CallableModel | None:
        _, folder = self._workspace.checkpoint_folder(name)
        try:
            created_at = (folder / "state.json").stat().st_mtime
        except FileNotFoundError:  # a running job has just thrown it away
            return None
        return CallableModel(name, name, name, "checkpoint", created_at, self._workspace.settings.org)

    def _callable_by(self, project: str, entry: CallableModel) -> bool:
        """See the class. A base is everybody's, and so that of a fine-tune."""
        if entry.kind == "base" or project == DEFAULT_PROJECT:
            return True
        if entry.kind == "checkpoint":
            owner = self._workspace.checkpoint_folder(entry.id)[0].project
        else:
            owner = self._workspace.project_of(entry.id) or DEFAULT_PROJECT
        return owner == project or (owner, entry.id) in self._workspace.permissions.given_to(project)

    def delete(self, name: str, project: str) -> str:
        """Delete a fine-tuned model of a project with its files; the id.

        Raises ModelNotFound, RefusedError for a base or another project's model, ModelConflict for an alias.
        """
        entry = self.find(name, project)
        if entry.kind == "base":
            raise RefusedError(
                403, f"The model `{entry.id}` is a base and can't be deleted.", code="model_not_deletable"
            )
        if entry.kind == "checkpoint":
            raise RefusedError(
                403, f"The checkpoint `{entry.id}` is deleted with the model of its job.", code="model_not_deletable"
            )
        if entry.kind == "tuned" and self._workspace.project_of(entry.name) != project:
            raise RefusedError(
                403,
                f"The model `{entry.id}` belongs to another project.",
                code="model_not_deletable",
                fix="use a key of the project whose job made it",
            )
        return self._workspace.delete_model(entry.name).id


def _named(bases: Sequence[str]) -> list[CallableModel]:
    entries: dict[str, CallableModel] = {}
    for wanted in bases:
        name, equals, rest = ("", "", "") if Path(wanted).is_dir() else wanted.partition("=")
        base = resolve(rest if equals else wanted)
        entry = _base_entry(base, name if equals else base.name)
        other = entries.setdefault(entry.name, entry)
        if not entry.name or other.source != entry.source:
            raise BaseNotFound(
                f"{wanted!r} names {base.name} {entry.name!r}" + (f", which is {other.id} already" if entry.name else ""),
                where="base",
                fix="give NAME=BASE with a name that no other base has",
            )
    return list(entries.values())


def _base_of(version: Version) -> CallableModel:
    return CallableModel(version.base, version.base, version.base_source, "base", version.created_at, "base")


def _base_entry(base: Base, name: str) -> CallableModel:
    created_at = (base.folder / "config.json").stat().st_mtime
    return CallableModel(name, base.name, base.source, "base", created_at, "base")
