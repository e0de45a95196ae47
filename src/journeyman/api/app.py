"""The application: its routes, and nothing that decides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from journeyman import __version__
from journeyman.api import batches, chat, checks, completions, evals, files, graders, jobs, responses, stored
from journeyman.api.deliver import Deliverer
from journeyman.api.errors import install
from journeyman.api.eval_runs import Runner
from journeyman.api.gate import MAX_BODY_BYTES, Gate, insist_on_owner, project_of
from journeyman.api.health import Health
from journeyman.api.metrics import Metrics
from journeyman.api.models import CallableModel, Catalogue
from journeyman.api.pieces import Decoder
from journeyman.api.rendering import Json
from journeyman.api.sound import insist_on_sound_text
from journeyman.api.wire import ChatCompletion, ChatRequest, ErrorEnvelope, ModelDeleted, ModelList, WireModel

if TYPE_CHECKING:
    from journeyman.workspace import Workspace

REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorEnvelope, "description": "What to mend"},
    "5XX": {"model": ErrorEnvelope, "description": "A failure of the server"},
}


def create_app(
    workspace: Workspace,
    *,
    bases: Sequence[str] = (),
    max_body_bytes: int = MAX_BODY_BYTES,
    base64_results: bool = False,
) -> FastAPI:
    """The OpenAI-compatible app over a workspace, which holds the keys it accepts.

    Clients can call the starter, the workspace's fine-tuned models and aliases, the bases those were trained on,
    and `bases` (hub ids or folders). With `base64_results` the content of a job's result file is base64, as
    at OpenAI. Raises BaseNotFound where one of `bases` is not here.
    """
    decoder, decoder_of_batches = Decoder(), Decoder()
    catalogue = Catalogue(workspace, bases)
    runner = Runner(workspace, catalogue)
    metrics = Metrics(workspace)
    deliverer = Deliverer(workspace)
    batch_runner = batches.BatchRunner(workspace, _answering(workspace, catalogue, decoder_of_batches))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        deliverer.start()
        batch_runner.open()
        runner.open()
        yield
        deliverer.close()
        batch_runner.close()
        decoder.close()
        decoder_of_batches.close()
        runner.close()

    app = FastAPI(
        title="Journeyman", version=__version__, lifespan=lifespan, redirect_slashes=False, responses=REFUSALS,
        docs_url=None, redoc_url=None,  # the framework's pages run scripts of another host; /openapi.json is here
        default_response_class=Json, dependencies=[Depends(insist_on_sound_text)],
    )  # fmt: skip
    app.state.decoder = decoder
    install(app)
    _add_models(app, catalogue)
    _add_chat(app, workspace, catalogue, decoder)
    app.include_router(stored.router(workspace))
    app.include_router(completions.router(workspace, catalogue, decoder))
    app.include_router(files.router(workspace, base64_results=base64_results))
    app.include_router(checks.router(workspace))
    app.include_router(jobs.router(workspace, catalogue))
    app.include_router(graders.router(workspace, catalogue))
    app.include_router(responses.router(workspace, catalogue, decoder))
    app.include_router(evals.router(workspace, catalogue, runner))
    app.include_router(batches.router(workspace, batch_runner))

    _add_operation(app, workspace, metrics)
    app.add_middleware(
        Gate,
        owner_keys=workspace.settings.api_keys,
        keys=workspace.keys,
        metrics=metrics,
        max_body_bytes=max_body_bytes,
    )
    return app


def _answering(workspace: Workspace, catalogue: Catalogue, decoder: Decoder) -> FastAPI:
    """The routes that answer, behind no gate: for requests that came through it in a file."""
    app = FastAPI(redirect_slashes=False, default_response_class=Json, dependencies=[Depends(insist_on_sound_text)])
    install(app)
    _add_chat(app, workspace, catalogue, decoder)
    app.include_router(completions.router(workspace, catalogue, decoder))
    app.include_router(responses.router(workspace, catalogue, decoder))
    return app


def _add_operation(app: FastAPI, workspace: Workspace, metrics: Metrics) -> None:
    health = Health(workspace)

    @app.get("/healthz", response_model=None)
    async def healthz() -> Json:
        """Whether this server can answer, and whether jobs can go on; no model is loaded for it."""
        status, report = await health.report()
        return Json(report, status)

    @app.get("/metrics", response_class=PlainTextResponse)
    def show_metrics(request: Request) -> Response:
        """What the server counts, in Prometheus' text format, for its owner."""
        insist_on_owner(request)
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_models(app: FastAPI, catalogue: Catalogue) -> None:
    # Plain functions: the framework runs them in a thread, since they wait for the database.

    @app.get("/v1/models")
    def list_models(request: Request) -> ModelList:
        """Every model that can be called with this key."""
        return ModelList(data=[_wire(entry) for entry in catalogue.all(project_of(request))])

    # An id may hold slashes (a hub id), and clients send them as %2F, which arrives decoded.
    @app.get("/v1/models/{model:path}")
    def retrieve_model(model: str, request: Request) -> WireModel:
        """One model, by its id or alias."""
        return _wire(catalogue.find(model, project_of(request)))

    @app.delete("/v1/models/{model:path}")
    def delete_model(model: str, request: Request) -> ModelDeleted:
        """Delete a fine-tuned model and its files; for keys of the project whose job made it."""
        return ModelDeleted(id=catalogue.delete(model, project_of(request)))


def _add_chat(app: FastAPI, workspace: Workspace, catalogue: Catalogue, decoder: Decoder) -> None:
    @app.post("/v1/chat/completions", response_model=ChatCompletion)
    async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation, whole or as a stream of server-sent events."""
        return await chat.complete(body, request, workspace, catalogue, decoder)


def _wire(entry: CallableModel) -> WireModel:
    return WireModel(id=entry.name, created=int(entry.created_at), owned_by=entry.owner)
