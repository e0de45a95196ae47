"""A model behind an OpenAI-compatible URL as an answerer, with timeouts, and retries where a retry can help."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from journeyman.answer.answerer import Tools
from journeyman.errors import JourneymanError, RequestError
from journeyman.records import Answer, Message, Stop, Usage

if TYPE_CHECKING:
    from journeyman.generate.sampling import Sampling  # it imports torch; only its type is needed here

TIMEOUT_S = 120.0
RETRIES = 4
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Statuses at which the same request may succeed a little later (those that OpenAI's own client retries)."""

REFUSED = frozenset({400, 413, 422})
"""Statuses that are about one request, such as a prompt that is too long: they cost this row only."""


class RemoteModel:
    """Answers with `POST {url}/chat/completions`, one request after another, so that `latency_s` is a request's own.

    Waits double from FIRST_WAIT_S, or follow the server's `retry-after`. Raises RequestError for a conversation that
    the server refuses, and JourneymanError `remote_failed` where it can't be reached, refuses the key, or sends
    what is no chat completion.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = model
        self.url = url.rstrip("/")
        self._retries = retries
        self._sleep = sleep
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(timeout=timeout_s, headers=headers, transport=transport)

    def answers(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling, tools: Sequence[Tools] = ()
    ) -> list[Answer]:
        """One answer a conversation, with the usage that the server counts."""
        offered = tools or [()] * len(conversations)
        return [self._answer(c, sampling, some) for c, some in zip(conversations, offered, strict=True)]

    def _answer(self, conversation: Sequence[Message], sampling: Sampling, tools: Tools) -> Answer:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [_sent(message) for message in conversation],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
        }
        if tools:
            body["tools"] = [dict(tool) for tool in tools]
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.json_schema is not None:
            wanted = {"name": "answer", "schema": json.loads(sampling.json_schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        response, took_s = self._post(body)
        return self._read(response, took_s)

    def _post(self, body: Mapping[str, Any]) -> tuple[httpx.Response, float]:
        """The response and the seconds of the attempt that succeeded."""
        problem = ""
        for attempt in range(self._retries + 1):
            started_s = time.perf_counter()
            try:
                response = self._client.post(f"{self.url}/chat/completions", json=body)
            except httpx.TransportError as error:
                problem, wait_s = f"{type(error).__name__}: {error}", None
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise self._failed(str(error), "give a URL such as http://127.0.0.1:8000/v1") from error
            else:
                if response.is_success:
                    return response, time.perf_counter() - started_s
                problem, wait_s = _problem(response), _retry_after_s(response)
                if response.status_code in REFUSED:
                    raise RequestError(
                        problem, where=self.url, fix="see the server's message", code="remote_refused"
                    )
                if response.status_code not in AGAIN:
                    break
            if attempt < self._retries:
                self._sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt if wait_s is None else wait_s))
        raise self._failed(
            problem, "check the URL, the model's name and the key; what is answered already is kept"
        )

    def _read(self, response: httpx.Response, took_s: float) -> Answer:
        try:
            value = response.json()
            choice, usage = value["choices"][0], value["usage"]
            text = choice["message"]["content"] or ""
            calls = tuple(_call(call) for call in choice["message"].get("tool_calls") or ())
            counts = Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise self._failed(
                f"the reply is no chat completion with its usage: {response.text[:200]!r}",
                "give the URL of an OpenAI-compatible server, up to and with its /v1",
            ) from error
        stop: Stop = "length" if choice.get("finish_reason") == "length" else "end"
        return Answer(text, stop, counts, took_s, calls)

    def _failed(self, problem: str, fix: str) -> JourneymanError:
        return JourneymanError(
            f"the model {self.name} can't be asked: {problem}", where=self.url, fix=fix, code="remote_failed"
        )


def _sent(message: Message) -> dict[str, Any]:
    """A message as the API takes it; training weights are ours."""
    return {key: value for key, value in message.as_dict().items() if key != "weight"}


def _call(value: Mapping[str, Any]) -> Mapping[str, Any]:
    function = {key: str(value["function"][key]) for key in ("name", "arguments")}
    return {"id": str(value.get("id", "")), "type": "function", "function": function}


def _problem(response: httpx.Response) -> str:
    """The status and the server's own message."""
    try:
        said = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = response.text[:200]
    return f"HTTP {response.status_code}: {said}"


def _retry_after_s(response: httpx.Response) -> float | None:
    """The wait that the server asks for in seconds; None where it gives none (or a date, which is seldom sent)."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
