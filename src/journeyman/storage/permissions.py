"""Which projects may call a model of another: given for each model or checkpoint, and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from journeyman.errors import RequestError
from journeyman.storage.keys import PROJECT

if TYPE_CHECKING:
    from journeyman.storage.documents import Document, Documents, Page

KIND = "checkpoint.permission"


class Permissions:
    """The permissions of all projects.

    `owner` is the project that a model is of. Its permissions are kept with that project, so that what another one keeps
    under the same name permits nothing.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def give(self, model: str, owner: str, projects: Sequence[str]) -> list[Document]:
        """Let projects call a model, by its id; their permissions. One that is there already is kept, and not made twice.

        Raises RequestError for a name that no project can have.
        """
        for number, project in enumerate(projects):
            if not PROJECT.fullmatch(project):
                raise RequestError(
                    f"{project[:50]!r} can't be a project", where=f"project_ids[{number}]",
                    fix="use 1 to 64 letters, digits, - or _", code="invalid_value",
                )  # fmt: skip
        documents = self._documents.of(owner)
        given = {d.body["project_id"]: d for d in documents.page(KIND, parent=model, limit=None).items}
        for project in projects:
            if project not in given:
                given[project] = documents.add(KIND, {"project_id": project}, parent=model)
        return [given[project] for project in dict.fromkeys(projects)]

    def page(
        self,
        model: str,
        owner: str,
        *,
        project: str | None = None,
        after: str | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page:
        """A model's permissions in the order they were given, or from the newest; only those of `project`, where that is named."""
        return self._documents.of(owner).page(
            KIND,
            parent=model,
            after=after,
            limit=limit,
            order=order,
            where={("project_id",): project} if project else {},
        )

    def take_back(self, model: str, owner: str, id: str) -> Document:
        """End a permission, from the next request on. Raises ObjectNotFound."""
        return self._documents.of(owner).remove(KIND, id, parent=model)

    def forget(self, model: str, owner: str) -> None:
        """End all permissions of a model that is gone."""
        for document in self.page(model, owner).items:
            self.take_back(model, owner, document.id)

    def given_to(self, project: str) -> frozenset[tuple[str, str]]:
        """What a project may call of others: owners and ids."""
        given = self._documents.everywhere(KIND, where={("project_id",): project})
        return frozenset((document.project, str(document.parent)) for document in given)
