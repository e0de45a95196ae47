"""The registry: every fine-tuned model with its base, data, plan, metrics and files; and aliases."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from journeyman import database
from journeyman.errors import CheckpointError, ModelConflict, ModelNotFound
from journeyman.models.bases import ALIASES, STARTER, Base, resolve


@dataclass(frozen=True, slots=True)
class Version:
    """A fine-tuned model: what it is called, what it was made of, what came out, where its files are.

    `base_source` is how the base is found again: its name, hub id or folder. `files` maps each file's name to its
    SHA-256.
    """

    id: str
    job: str
    base: str
    base_source: str
    base_fingerprint: str
    dataset_hash: str
    method: str
    plan: Mapping[str, Any]
    metrics: Mapping[str, Any]
    files: Mapping[str, str]
    folder: Path
    created_at: float


class Registry:
    """The models of one JOURNEYMAN_HOME, their files below `folder`: kept relative to it, so that a home can be moved."""

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder

    def add(self, version: Version) -> Version:
        """Register a model. A job that is registered already (its process died right after) keeps its first entry."""
        with self._engine.begin() as connection:
            known = connection.execute(
                sa.select(database.models).where(database.models.c.job == version.job)
            ).one_or_none()
            if known is not None:
                return self._version(known)
            row = {name: getattr(version, name) for name in version.__slots__}
            inside = version.folder.is_relative_to(self._folder)
            folder = version.folder.relative_to(self._folder) if inside else version.folder
            connection.execute(database.models.insert().values({**row, "folder": str(folder)}))
        return version

    def get(self, name: str) -> Version:
        """A model by id or alias. Raises ModelNotFound, which names no other model: a job of any project may show it."""
        table = database.models
        with self._engine.connect() as connection:
            target = connection.execute(
                sa.select(database.aliases.c.model).where(database.aliases.c.name == name)
            ).scalar()
            row = connection.execute(sa.select(table).where(table.c.id == (target or name))).one_or_none()
        if row is None:
            raise ModelNotFound(f"no fine-tuned model {name!r}", where="model", fix="`journeyman models` lists them")
        return self._version(row)

    def by_id(self, model_id: str) -> Version:
        """A model by its own id, for what must not reach it by another name. Raises ModelNotFound, and ModelConflict for an alias."""
        version = self.get(model_id)
        if version.id != model_id:
            raise ModelConflict(
                f"`{model_id}` is an alias of `{version.id}`, and only a model can be deleted.",
                where="model",
                fix="delete the model by its id, or only the alias with `journeyman models unalias`",
                code="model_not_deletable",
            )
        return version

    def list(self) -> list[Version]:
        """All models, newest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(database.models).order_by(database.models.c.created_at.desc())).all()
        return [self._version(row) for row in rows]

    def named(self, name: str) -> tuple[Version | None, Base | None]:
        """What a name means: a base, a LoRA version with its base, or a fully tuned version, which needs none.

        Raises ModelNotFound, BaseNotFound, or CheckpointError where the base is no longer the one the adapter was trained on.
        """
        known = ALIASES.get(name, name)
        if known != STARTER and (name.startswith("ft:") or name in self.aliases()):
            version = self.get(name)
            if version.method == "full":
                return version, None
            base = resolve(version.base_source)
            if base.fingerprint != version.base_fingerprint:
                raise CheckpointError(
                    f"the base {version.base} has changed since {version.id} was trained on it",
                    where=str(base.folder),
                    fix="train again on the present base, or put the former one back",
                )
            return version, base
        if known != STARTER and not Path(known).is_dir() and "/" not in known:
            raise ModelNotFound(
                f"The model `{name}` does not exist or you do not have access to it.",
                where="model",
                fix="`journeyman models` lists what can be called",
            )
        return None, resolve(name)

    def oldest_of(self, base: str) -> Version | None:
        """The first model that was trained on a base of this name; None where there is none."""
        table = database.models
        query = sa.select(table).where(table.c.base == base).order_by(table.c.created_at).limit(1)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else self._version(row)

    def projects(self) -> dict[str, str]:
        """The project whose job made each model; "" where the job is gone, or was of none."""
        query = sa.select(database.models.c.id, database.jobs.c.project).outerjoin(
            database.jobs, database.jobs.c.id == database.models.c.job
        )
        with self._engine.connect() as connection:
            return {row.id: row.project or "" for row in connection.execute(query)}

    def remove(self, model_id: str) -> Version:
        """Forget a model and the aliases that point to it; its files are the caller's to delete. Raises as `by_id`."""
        version = self.by_id(model_id)
        with self._engine.begin() as connection:
            connection.execute(database.aliases.delete().where(database.aliases.c.model == version.id))
            connection.execute(database.models.delete().where(database.models.c.id == version.id))
        return version

    def set_alias(self, alias: str, name: str) -> Version:
        """Let `alias` mean this model from now on. Raises ModelNotFound for an unknown model, ModelConflict for a bad alias."""
        version = self.get(name)
        if alias in (STARTER, *ALIASES):
            raise ModelConflict(f"{alias!r} already means a base model", where="alias", fix="choose another word")
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", alias):
            fix = "use 1 to 64 letters, digits, '.', '-' or '_'"
            raise ModelConflict(f"{alias!r} can't be an alias", where="alias", fix=fix)
        with self._engine.begin() as connection:
            connection.execute(database.aliases.delete().where(database.aliases.c.name == alias))
            connection.execute(
                database.aliases.insert().values(name=alias, model=version.id, created_at=time.time())
            )
        return version

    def remove_alias(self, alias: str) -> Version:
        """Let `alias` mean nothing; the model it meant stays. Raises ModelNotFound where it is no alias."""
        if alias not in self.aliases():
            raise ModelNotFound(f"there is no alias {alias!r}", where="alias", fix="`journeyman models` lists them")
        version = self.get(alias)
        with self._engine.begin() as connection:
            connection.execute(database.aliases.delete().where(database.aliases.c.name == alias))
        return version

    def aliases(self) -> dict[str, str]:
        """Every alias and the id it means."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(database.aliases).order_by(database.aliases.c.name)).all()
        return {row.name: row.model for row in rows}

    def _version(self, row: Any) -> Version:
        values = dict(row._mapping)
        return Version(**{**values, "folder": self._folder / values["folder"]})
