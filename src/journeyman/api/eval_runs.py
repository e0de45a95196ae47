"""A run of an eval: its items answered some at once, graded, and kept in their order.

Where a server stops or is killed, another goes on with its runs after the last item that was kept.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from journeyman.api.alive import lives, this_server
from journeyman.api.chat import sampling_of
from journeyman.api.errors import RefusedError, misfit_envelope
from journeyman.api.eval_checks import insist_on_source, lacking
from journeyman.api.eval_messages import NO_SAMPLE, asked_of, conversation
from journeyman.api.graders import ServedJudge, parsed
from journeyman.api.models import Catalogue
from journeyman.api.stored import ExportStored, chosen
from journeyman.api.wire import ChatRequest
from journeyman.api.wire_evals import CreateRun, DataSource, Row, SamplingParams, sample_shown
from journeyman.api.wire_responses import nested_format, nested_tool
from journeyman.database import UNREACHABLE
from journeyman.errors import JourneymanError, ModelNotFound, ObjectNotFound, RequestError
from journeyman.files import NO_ROOM
from journeyman.grade.score import Grader, Sample, Score
from journeyman.jobs.queue import MOST_DEATHS
from journeyman.storage.documents import Document, Documents

if TYPE_CHECKING:
    from journeyman.generate.engine import Piece
    from journeyman.storage.files import FileStore
    from journeyman.workspace import Workspace

ITEM = "eval.run.output_item"
GOING_ON = ("queued", "in_progress")
"""States of a run that has not ended."""

MAX_RUNS = 2
"""Runs that go on at a time; others wait."""

AT_ONCE = 16
"""Items of a run that are answered together; the engine answers them in one batch."""

TAKE_UP_S = 5.0
"""How often a server looks for runs whose own server is gone."""

log = logging.getLogger("journeyman.api")


def new_run(
    of: Document, body: CreateRun, documents: Documents, catalogue: Catalogue, files: FileStore
) -> Document:
    """Keep a run that is about to begin. Raises RequestError where it could not."""
    source = body.data_source
    insist_on_source(of, source, files)
    if source.model is not None:
        _chat(source)
        try:
            catalogue.find(source.model, documents.project)
        except ModelNotFound as error:
            raise RefusedError(
                400, error.message, code="model_not_found", where="data_source.model"
            ) from None
    content = {
        "status": "queued",
        "model": source.model or "",
        "name": body.name or "",
        "report_url": "",
        "result_counts": {"total": 0, "errored": 0, "failed": 0, "passed": 0},
        "per_model_usage": [],
        "per_testing_criteria_results": [],
        "data_source": source.model_dump(exclude_none=True),
        "metadata": body.metadata or {},
        "error": {"code": "", "message": ""},
        "runner": this_server(),
    }
    return documents.add("eval.run", content, parent=of.id)


class Runner:
    """The threads that runs go on in."""

    def __init__(self, workspace: Workspace, catalogue: Catalogue) -> None:
        self._workspace = workspace
        self._catalogue = catalogue
        self._threads = ThreadPoolExecutor(MAX_RUNS, thread_name_prefix="eval")
        self._threads_of_items = ThreadPoolExecutor(MAX_RUNS * AT_ONCE, thread_name_prefix="eval item")
        self._stopping = threading.Event()

    def open(self) -> None:
        """Go on with runs whose server is gone, from now on."""
        threading.Thread(target=self._look, name="eval runs", daemon=True).start()

    def close(self) -> None:
        """Stop after the items at hand; runs stay as they are, for the next server to go on with."""
        self._stopping.set()
        for threads in (self._threads, self._threads_of_items):
            threads.shutdown(wait=False, cancel_futures=True)

    def start(self, of: Document, run: Document, body: CreateRun, documents: Documents) -> None:
        """Let a run go on in the background."""
        self._threads.submit(self._run, of, run, body, documents)

    def _look(self) -> None:
        while not self._stopping.is_set():
            try:
                self._take_up()
            except UNREACHABLE as error:
                log.warning("the database does not answer: %s", error)
            except Exception:
                log.exception("eval runs could not be looked for")
            self._stopping.wait(TAKE_UP_S)

    def _take_up(self) -> None:
        """Start the runs whose server is gone from this machine, unless another server was quicker."""
        everywhere = self._workspace.documents.everywhere
        for run in (run for status in GOING_ON for run in everywhere("eval.run", where={("status",): status})):
            if lives(str(run.body["runner"])):
                continue
            documents = self._workspace.documents.of(run.project)
            state = {key: run.body[key] for key in ("status", "runner")}
            taken = documents.change(run, {"runner": this_server(), **_deaths(run, documents)}, only_if=state)
            if taken is None:
                continue
            if taken.body["deaths"]["times"] > MOST_DEATHS:
                message = f"the server stopped {MOST_DEATHS} times in a row without answering a further item"
                self._fail(taken, documents, "server_stopped", message)
                continue
            given = {key: run.body[key] for key in ("name", "metadata", "data_source")}
            self.start(documents.get("eval", run.parent or ""), taken, CreateRun.model_validate(given), documents)

    def _run(self, of: Document, run: Document, body: CreateRun, documents: Documents) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    return self._go_on(of, run, body, documents)
                except (OSError, *UNREACHABLE) as error:  # a full disk, a database that is away: until they are back
                    if isinstance(error, OSError) and error.errno not in NO_ROOM:
                        raise
                    log.warning("the eval run %s waits: %s", run.id, error)
                    self._stopping.wait(TAKE_UP_S)
        except JourneymanError as error:
            self._fail(run, documents, error.code, error.message)
        except Exception:
            log.exception("the eval run %s failed", run.id)
            self._fail(run, documents, "internal_error", "the server's log has the reason")

    def _go_on(self, of: Document, run: Document, body: CreateRun, documents: Documents) -> None:
        """Answer and grade what has no item yet. It ends early where the run is cancelled, deleted or no longer this server's."""
        mine = {"status": "in_progress", "runner": this_server()}
        now = documents.get("eval.run", run.id)
        if now.body["status"] not in GOING_ON:
            return
        begun = documents.change(now, {"status": "in_progress"}, only_if={**mine, "status": now.body["status"]})
        if begun is None:
            return
        run = begun
        criteria = of.body["testing_criteria"]
        judge = ServedJudge(self._workspace, self._catalogue, documents.project)
        graders = [parsed({k: v for k, v in c.items() if k != "id"}, judge=judge) for c in criteria]
        rows = self._rows(body, documents)
        tally = _Tally(criteria, len(rows), body.data_source.model)
        known = documents.page(ITEM, parent=run.id, limit=None, order="asc").items
        if [item.body["datasource_item"] for item in known] != [row.item for row in rows[: len(known)]]:
            raise RequestError("the rows of this run have changed since it began", code="rows_changed", fix="begin another run")
        for item in known:
            tally.add(item.body)
        for item_body in self._items_of(of, rows, len(known), graders, body, documents.project):
            documents.add(ITEM, item_body, parent=run.id)
            tally.add(item_body)
            changed = documents.change(run, tally.as_dict(), only_if=mine)
            if changed is None:
                return
            run = changed
        if not self._stopping.is_set():
            done = {**tally.as_dict(), "status": "completed"}
            documents.change(run, done, only_if=mine, announced="eval.run.succeeded")

    def _items_of(
        self, of: Document, rows: Sequence[Row], first: int, graders: Sequence[Grader], body: CreateRun, project: str
    ) -> Iterator[dict[str, Any]]:
        """The rows from `first` on, answered and graded AT_ONCE together, in their order, until the server stops.

        One that can't be answered, for it is too long or lacks what is asked of it, is errored, and the others go on.
        """

        def item(number: int) -> dict[str, Any]:
            answer = self._answer(of, rows[number], body, project)
            if answer.error is None:
                scores = [grader.grade(answer.sample, rows[number].item) for grader in graders]
            else:
                scores = [Score(grader.name, None, None, answer.error["message"]) for grader in graders]
            return _item(number, rows[number], answer, scores, graders, body)

        left, under_way = iter(range(first, len(rows))), deque[Future[dict[str, Any]]]()
        try:
            while not self._stopping.is_set():
                under_way += [self._threads_of_items.submit(item, n) for n in islice(left, AT_ONCE - len(under_way))]
                if not under_way:
                    return
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    def _fail(self, run: Document, documents: Documents, code: str, message: str) -> None:
        with suppress(ObjectNotFound):
            now = documents.get("eval.run", run.id)
            changes = {"status": "failed", "error": {"code": code, "message": message}}
            only_if = {"status": "in_progress", "runner": this_server()}
            documents.change(now, changes, only_if=only_if, announced="eval.run.failed")

    def _rows(self, body: CreateRun, documents: Documents) -> Sequence[Row]:
        source = body.data_source.source
        if source.type == "file_content":
            return source.content or ()
        if source.type == "stored_completions":
            keys = ("model", "metadata", "created_after", "created_before", "limit")
            wish = ExportStored(**{key: getattr(source, key) for key in keys})
            return [_stored_row(document) for document in chosen(documents, wish)]
        files = self._workspace.files.of(documents.project)
        path = files.path(files.get(source.id or ""))
        rows = []
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    value = json.loads(line)
                    rows.append(Row(item=value.get("item", value), sample=value.get("sample")))
                except (ValueError, AttributeError):
                    raise RequestError(
                        f"line {number} of {source.id} is not an object with an item", where="data_source.source.id",
                        fix='write {"item": {...}} a line', code="invalid_file_format",
                    ) from None  # fmt: skip
        return rows

    def _answer(self, of: Document, row: Row, body: CreateRun, project: str) -> _Answer:
        source = body.data_source
        asked: list[dict[str, Any]] = []
        try:
            if (key := lacking(of, row)) is not None:
                raise RequestError(f"the item has no {key!r}, which the eval's item_schema requires", code="invalid_item")
            if source.type == "jsonl" or source.model is None or source.input_messages is None:
                return _brought(row)
            asked = asked_of(source.input_messages, row)
            chat = _chat(source)
            pieces = self._workspace.stream(
                self._catalogue.find(chat.model, project).source,
                conversation(asked),
                sampling_of(chat),
                tools=chat.offered_tools(),
                use=chat.tool_use(),
                patient=True,
            )
            return _collected(asked, pieces)
        except RequestError as error:
            return _Answer(NO_SAMPLE, "stop", {}, asked, {"code": error.code, "message": error.message})


def _stored_row(document: Document) -> Row:
    """A stored completion as an item: what was asked as `item.input`, and the first answer as the sample."""
    message = document.body["completion"]["choices"][0]["message"]
    sample = {"output_text": message["content"] or "", "output_tools": message.get("tool_calls") or []}
    return Row(
        item={"input": document.body["messages"], "metadata": document.body["metadata"]}, sample=sample
    )


@dataclass(frozen=True)
class _Answer:
    """What a model said of one item, or what the item brought along; `error` says why there is nothing."""

    sample: Sample
    finish_reason: str
    usage: Mapping[str, int]
    asked: list[dict[str, Any]]
    error: Mapping[str, str] | None = None


def _brought(row: Row) -> _Answer:
    sample = row.sample or {}
    tools = sample.get("output_tools")
    calls = tuple(tools) if isinstance(tools, list) else ()
    return _Answer(Sample(str(sample.get("output_text", "")), calls), "stop", {}, [])


def _collected(asked: list[dict[str, Any]], pieces: Iterable[Piece]) -> _Answer:
    text, calls, stop, usage = "", list[Mapping[str, Any]](), "stop", dict[str, int]()
    for piece in pieces:
        text += piece.text
        calls += piece.calls
        if piece.stop is not None:
            stop = "length" if piece.stop == "length" else "tool_calls" if calls else "stop"
        if piece.usage is not None:
            usage = {
                "prompt_tokens": piece.usage.prompt_tokens,
                "completion_tokens": piece.usage.completion_tokens,
                "total_tokens": piece.usage.total_tokens,
                "cached_tokens": 0,
            }
    return _Answer(Sample(text, tuple(calls)), stop, usage, asked)


class _Tally:
    """What has come out so far."""

    def __init__(self, criteria: Sequence[Mapping[str, Any]], total: int, model: str | None) -> None:
        self._counts = {"total": total, "errored": 0, "failed": 0, "passed": 0}
        self._criteria = [{"testing_criteria": c["id"], "passed": 0, "failed": 0} for c in criteria]
        self._usage: dict[str, Any] = {"model_name": model, "invocation_count": 0, "prompt_tokens": 0}
        self._usage |= {"completion_tokens": 0, "total_tokens": 0, "cached_tokens": 0}

    def add(self, item: Mapping[str, Any]) -> None:
        """Count one item. It is errored where a grader could not measure it, and passes where every grader passes."""
        results, usage = item["results"], item["sample"]["usage"]
        if any(result["sample"] for result in results):
            self._counts["errored"] += 1
        else:
            self._counts["passed" if item["status"] == "pass" else "failed"] += 1
        for criterion, result in zip(self._criteria, results, strict=True):
            criterion["passed" if result["passed"] else "failed"] += 1
        if any(usage.values()):
            self._usage["invocation_count"] += 1
            for name, count in usage.items():
                self._usage[name] += count

    def as_dict(self) -> dict[str, Any]:
        """As a run shows it."""
        usage = [self._usage] if self._usage["invocation_count"] else []
        return {
            "result_counts": self._counts,
            "per_testing_criteria_results": self._criteria,
            "per_model_usage": usage,
        }


def _item(
    number: int, row: Row, answer: _Answer, scores: Sequence[Score], graders: Sequence[Grader], body: CreateRun
) -> dict[str, Any]:
    usage = dict(answer.usage) or dict.fromkeys(
        ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"), 0
    )
    params = _params(body.data_source.sampling_params or SamplingParams())
    return {
        "status": "pass" if _passed(scores) else "fail",
        "datasource_item_id": number,
        "datasource_item": row.item,
        "results": [
            {
                "name": grader.name,
                "type": grader.type,
                "score": score.value or 0.0,
                "passed": bool(score.passed),
                "sample": None if score.error is None else {"error": score.error},
            }
            for grader, score in zip(graders, scores, strict=True)
        ],
        "sample": sample_shown(
            answer.asked,
            answer.sample,
            answer.finish_reason,
            body.data_source.model or "",
            usage,
            params,
            answer.error,
        ),
    }


def _passed(scores: Sequence[Score]) -> bool:
    return all(score.passed for score in scores)


def _params(given: SamplingParams) -> dict[str, Any]:
    """OpenAI's defaults, 42 as the seed among them."""
    room = given.max_completion_tokens or given.max_completions_tokens
    return {
        "temperature": 1.0 if given.temperature is None else given.temperature,
        "top_p": 1.0 if given.top_p is None else given.top_p,
        "seed": 42 if given.seed is None else given.seed,
        "max_completion_tokens": room or 0,
    }


def _chat(source: DataSource) -> ChatRequest:
    """How each item is asked, as the body of a chat completion without its messages. Raises RefusedError."""
    given = source.sampling_params or SamplingParams()
    of_responses = source.type == "responses"
    try:
        chat = ChatRequest.model_validate(
            {
                "model": source.model,
                "messages": [{"role": "user", "content": ""}],
                **_params(given),
                "max_completion_tokens": given.max_completion_tokens or given.max_completions_tokens,
                "response_format": nested_format(given.text) if of_responses else given.response_format,
                "tools": [nested_tool(tool) for tool in given.tools or ()] if of_responses else given.tools,
            }
        )
        chat.check()
    except ValidationError as error:
        refused = misfit_envelope(error.errors()).error
        raise RefusedError(
            400, refused.message, code=refused.code or "invalid_value", where="data_source.sampling_params"
        ) from None
    except RequestError as error:
        raise RefusedError(
            400, error.message, code=error.code, where="data_source.sampling_params", fix=error.fix
        ) from None
    return chat


def _deaths(run: Document, documents: Documents) -> dict[str, Any]:
    """How often in a row servers have died over a run since it had as many items as now."""
    items, before = documents.count(ITEM, parent=run.id), run.body.get("deaths") or {}
    return {"deaths": {"items": items, "times": before["times"] + 1 if before.get("items") == items else 1}}
