"""/v1/evals: graders over items, answered by a model of this server or brought along."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from journeyman.api.errors import RefusedError
from journeyman.api.eval_checks import criteria_named, insist_on_config
from journeyman.api.eval_runs import GOING_ON, Runner, new_run
from journeyman.api.gate import project_of
from journeyman.api.models import Catalogue
from journeyman.api.wire_evals import (
    CreateEval,
    CreateRun,
    UpdateEval,
    config_shown,
    eval_shown,
    item_shown,
    run_shown,
)
from journeyman.storage.documents import Document, Documents, Page, new_id

if TYPE_CHECKING:
    from journeyman.workspace import Workspace

Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


def router(workspace: Workspace, catalogue: Catalogue, runner: Runner) -> APIRouter:
    """The routes of evals."""
    routes = APIRouter(prefix="/v1/evals")

    def documents(request: Request) -> Documents:
        return workspace.documents.of(project_of(request))

    _add_evals(routes, documents)
    _add_runs(routes, documents, workspace, catalogue, runner)
    return routes


def _add_evals(routes: APIRouter, documents: Any) -> None:
    @routes.post("", status_code=201)
    def create_eval(body: CreateEval, request: Request) -> dict[str, Any]:
        """Keep what is to be measured."""
        insist_on_config(body.data_source_config)
        criteria = [
            {**criterion, "name": name, "id": f"{name}-{new_id('eval')[5:]}"}
            for name, criterion in criteria_named(body.testing_criteria)
        ]
        content = {
            "name": body.name or "",
            "metadata": body.metadata or {},
            "data_source_config": config_shown(body.data_source_config),
            "testing_criteria": criteria,
        }
        return eval_shown(documents(request).add("eval", content))

    @routes.get("")
    def list_evals(
        request: Request,
        after: str | None = None,
        limit: Limit = 20,
        order: Order = "asc",
        order_by: Literal["created_at", "updated_at"] = "created_at",
    ) -> dict[str, Any]:
        """Evals by when they were created, or last renamed or labelled."""
        by: Literal["added", "updated"] = "added" if order_by == "created_at" else "updated"
        page = documents(request).page("eval", after=after, limit=limit, order=order, by=by)
        return _listed(page, [eval_shown(d) for d in page.items])

    @routes.get("/{eval_id}")
    def retrieve_eval(eval_id: str, request: Request) -> dict[str, Any]:
        """One eval."""
        return eval_shown(documents(request).get("eval", eval_id))

    @routes.post("/{eval_id}")
    def update_eval(eval_id: str, body: UpdateEval, request: Request) -> dict[str, Any]:
        """Rename or label an eval."""
        store = documents(request)
        found = store.get("eval", eval_id)
        changes = {**body.model_dump(exclude_none=True), "updated_at": time.time()}
        if "metadata" in body.model_fields_set:  # null takes all labels away
            changes["metadata"] = body.metadata or {}
        return eval_shown(store.change(found, changes) or found)

    @routes.delete("/{eval_id}")
    def delete_eval(eval_id: str, request: Request) -> dict[str, Any]:
        """Forget an eval with its runs."""
        return {
            "object": "eval.deleted",
            "deleted": True,
            "eval_id": documents(request).remove("eval", eval_id).id,
        }


def _add_runs(
    routes: APIRouter, documents: Any, workspace: Workspace, catalogue: Catalogue, runner: Runner
) -> None:
    path = "/{eval_id}/runs"

    def found(request: Request, eval_id: str, run_id: str) -> Document:
        run: Document = documents(request).get("eval.run", run_id, parent=eval_id)
        return run

    @routes.post(path, status_code=201)
    def create_run(eval_id: str, body: CreateRun, request: Request) -> dict[str, Any]:
        """Begin a run; it goes on in the background."""
        store = documents(request)
        of = store.get("eval", eval_id)
        run = new_run(of, body, store, catalogue, workspace.files.of(store.project))
        runner.start(of, run, body, store)
        return run_shown(run)

    @routes.get(path)
    def list_runs(
        eval_id: str,
        request: Request,
        after: str | None = None,
        limit: Limit = 20,
        order: Order = "asc",
        status: Literal["queued", "in_progress", "completed", "canceled", "failed"] | None = None,
    ) -> dict[str, Any]:
        """Runs of an eval."""
        store = documents(request)
        store.get("eval", eval_id)
        where = {("status",): status} if status else {}
        page = store.page("eval.run", parent=eval_id, after=after, limit=limit, order=order, where=where)
        return _listed(page, [run_shown(d) for d in page.items])

    @routes.get(path + "/{run_id}")
    def retrieve_run(eval_id: str, run_id: str, request: Request) -> dict[str, Any]:
        """How a run stands."""
        return run_shown(found(request, eval_id, run_id))

    # OpenAI's reference and its older SDKs post to the run itself, newer ones to /cancel.
    @routes.post(path + "/{run_id}")
    @routes.post(path + "/{run_id}/cancel")
    def cancel_run(eval_id: str, run_id: str, request: Request) -> dict[str, Any]:
        """Stop a run after the items at hand."""
        store = documents(request)
        run = found(request, eval_id, run_id)
        while run.body["status"] in GOING_ON:
            only_if = {"status": run.body["status"]}
            cancelled = store.change(run, {"status": "canceled"}, only_if=only_if, announced="eval.run.canceled")
            if cancelled is not None:
                return run_shown(cancelled)
            run = found(request, eval_id, run_id)  # it began or ended while it was read
        message = f"The run {run.id} is {run.body['status']} already"
        raise RefusedError(400, message, code="run_ended", where="run_id")

    @routes.delete(path + "/{run_id}")
    def delete_run(eval_id: str, run_id: str, request: Request) -> dict[str, Any]:
        """Forget a run with its items."""
        run = documents(request).remove("eval.run", run_id, parent=eval_id)
        return {"object": "eval.run.deleted", "deleted": True, "run_id": run.id}

    @routes.get(path + "/{run_id}/output_items")
    def list_items(
        eval_id: str,
        run_id: str,
        request: Request,
        after: str | None = None,
        limit: Limit = 20,
        order: Order = "asc",
        status: Literal["fail", "pass"] | None = None,
    ) -> dict[str, Any]:
        """What came out, item by item."""
        run = found(request, eval_id, run_id)
        where = {("status",): status} if status else {}
        page = documents(request).page(
            "eval.run.output_item", parent=run.id, after=after, limit=limit, order=order, where=where
        )
        return _listed(page, [item_shown(d, run) for d in page.items])

    @routes.get(path + "/{run_id}/output_items/{item_id}")
    def retrieve_item(eval_id: str, run_id: str, item_id: str, request: Request) -> dict[str, Any]:
        """One item."""
        run = found(request, eval_id, run_id)
        return item_shown(documents(request).get("eval.run.output_item", item_id, parent=run.id), run)


def _listed(page: Page, data: list[dict[str, Any]]) -> dict[str, Any]:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": page.has_more}
