"""OpenAI's wire shapes for models and chat completions; no other module of the package knows them.

A field is honoured, or named in NO_EFFECT because it can't change an answer here, or refused by name. Nothing is
ignored in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from journeyman.api.strict import Metadata
from journeyman.api.strict import Strict as _Strict
from journeyman.data.messages import RowError, read_messages
from journeyman.errors import RequestError
from journeyman.records import Message, Stop, ToolUse

if TYPE_CHECKING:
    from journeyman.generate.logprobs import TokenLogprob

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]
FINISH_REASONS: dict[Stop, FinishReason] = {"end": "stop", "length": "length", "cancelled": "stop"}

MAX_SEED = 2**63 - 1


def only(allowed: Callable[[Any], bool], reason: str) -> BeforeValidator:
    """Refuse a field of OpenAI's API, by name, at any value that would need what is not here yet."""

    def check(value: Any) -> Any:
        if value is None or allowed(value):
            return value
        raise PydanticCustomError("unsupported_parameter", "{reason}", {"reason": reason})

    return BeforeValidator(check)


def empty(value: Any) -> bool:
    """Whether a value says nothing."""
    return value in ([], {}, "")


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────


class TextPart(_Strict):
    """A piece of a message's text; a refusal is what an earlier turn said, and read as its text."""

    type: Literal["text"]
    text: str
    refusal: None = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in ("image_url", "input_audio", "file"):
            raise PydanticCustomError("unsupported_parameter", "Only text parts can be read.")
        if kind == "refusal" and isinstance(value.get("refusal"), str):
            return {"text": value["refusal"], **value, "type": "text", "refusal": None}
        return value


class Function(_Strict):
    """The function of a call: its name, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(_Strict):
    """A call that an earlier assistant turn made."""

    id: str
    type: Literal["function"]
    function: Function
    index: int | None = None


def _as_parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class WireMessage(_Strict):
    """One turn as a client sends it, a turn that was answered before included."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[
        list[TextPart] | None, BeforeValidator(_as_parts, json_schema_input_type=str | list[TextPart] | None)
    ] = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: Function | None = None
    annotations: list[Any] | None = None
    refusal: str | None = None
    audio: Annotated[Any, only(empty, "Audio can't be read.")] = None

    def as_row(self) -> dict[str, Any]:
        """The message as a training file would hold it."""
        row = self.model_dump(exclude_none=True, exclude={"annotations", "refusal", "audio"})
        if self.tool_calls == []:
            del row["tool_calls"]
        if self.refusal and not self.content:
            row["content"] = self.refusal
        return row


# ── chat completions ──────────────────────────────────────────────────────────────────────────────────────────


class StreamOptions(_Strict):
    """`include_obfuscation` pads frames and is not needed between a client and its own server."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class OfferedFunction(_Strict):
    """A function that the model may call. The arguments of a `strict` one fit its schema; of others, in forced calls."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _takes_an_object(self) -> OfferedFunction:
        if (self.parameters or {}).get("type", "object") != "object":
            raise PydanticCustomError(
                "value_error", "The type of a function's parameters is object, and nothing else"
            )
        return self


class Tool(_Strict):
    """A tool that the model may call, kept as it was sent: the chat template writes it down in that order."""

    type: Literal["function"]
    function: OfferedFunction
    _sent: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, value: Any, handler: ModelWrapValidatorHandler[Tool]) -> Tool:
        if isinstance(value, dict) and value.get("type") not in (None, "function"):
            raise PydanticCustomError(
                "unsupported_parameter", "Only tools of the type function can be called."
            )
        tool = handler(value)
        tool._sent = value
        return tool

    @property
    def sent(self) -> dict[str, Any]:
        """The tool as the client wrote it."""
        return self._sent


class NamedFunction(_Strict):
    """A function by its name."""

    name: FunctionName


class NamedTool(_Strict):
    """A tool by its function's name."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(_Strict):
    """Some of the tools, of which a call may or must be made."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=128)]


class ToolChoice(_Strict):
    """Whether tools are called, and which."""

    type: Literal["none", "auto", "required", "function", "allowed_tools"]
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None

    @model_validator(mode="after")
    def _whole(self) -> ToolChoice:
        for kind in ("function", "allowed_tools"):
            if (self.type == kind) != (getattr(self, kind) is not None):
                raise PydanticCustomError(
                    "value_error", "{kind} goes with the type {kind}, and no other", {"kind": kind}
                )
        return self

    @property
    def names(self) -> frozenset[str] | None:
        """The functions that may be called; None where all may."""
        if self.function is not None:
            return frozenset({self.function.name})
        if self.allowed_tools is not None:
            return frozenset(tool.function.name for tool in self.allowed_tools.tools)
        return None

    @property
    def must(self) -> bool:
        """Whether a call has to be made."""
        required = self.allowed_tools is not None and self.allowed_tools.mode == "required"
        return required or self.type in ("required", "function")


def _as_choice(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _as_tools(value: Any) -> Any:
    return [{"type": "function", "function": item} for item in value] if isinstance(value, list) else value


def _as_older_choice(value: Any) -> Any:
    """`function_call` names a function or says none or auto; it never asks for just any call."""
    if isinstance(value, dict):
        return {"type": "function", "function": value}
    return {"type": value} if value in ("none", "auto") else value


class NamedSchema(_Strict):
    """The schema of an answer. An answer always fits it here, `strict` or not."""

    name: FunctionName
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(_Strict):
    """Whether an answer is any text, any JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


StopText = Annotated[str, Field(min_length=1)]
StopTexts = Annotated[
    Annotated[list[StopText], Field(max_length=4)] | None,
    BeforeValidator(_as_list, json_schema_input_type=str | list[StopText] | None),
]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]

MIN_LOGPROB = -9999.0
"""OpenAI's value for a token that is as good as impossible; JSON has no infinity."""

NO_EFFECT = frozenset(
    {
        "moderation",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "user",
        "verbosity",
    }
)
"""Accepted, and without effect on what the model answers: labels, caching and billing, speed hints, a second opinion
beside the answer, and what only models with a dial for it heed: the effort of their reasoning, their verbosity."""


def refuse_stray_stream_options(options: object, stream: bool | None) -> None:
    """Raises RequestError where options of a stream are given and none is asked for."""
    if options is not None and not stream:
        raise RequestError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled",
            where="stream_options",
            fix="set stream to true, or leave stream_options out",
            code="invalid_parameter_combination",
        )


class ChatRequest(_Strict):
    """The body of POST /v1/chat/completions. A field that is null is as good as absent."""

    model: str = Field(min_length=1)
    messages: list[WireMessage] = Field(min_length=1)
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    seed: Annotated[int, Field(ge=-MAX_SEED, le=MAX_SEED)] | None = None
    stop: StopTexts = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[TokenId, Bias] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Annotated[
        ToolChoice | None,
        BeforeValidator(
            _as_choice, json_schema_input_type=Literal["none", "auto", "required"] | ToolChoice | None
        ),
    ] = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    functions: Annotated[
        Annotated[list[Tool], Field(max_length=128)] | None,
        BeforeValidator(_as_tools, json_schema_input_type=list[dict[str, Any]] | None),
    ] = None
    function_call: Annotated[
        ToolChoice | None,
        BeforeValidator(
            _as_older_choice, json_schema_input_type=Literal["none", "auto"] | dict[str, Any] | None
        ),
    ] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    modalities: Annotated[Any, only(lambda v: v == ["text"], "Only text can be answered.")] = None
    audio: Annotated[Any, only(empty, "Only text can be answered.")] = None
    web_search_options: Annotated[Any, only(lambda v: False, "There is no search on this server.")] = None
    store: bool | None = None
    metadata: Metadata | None = None

    moderation: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    user: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    def check(self) -> None:
        """Refuse fields that contradict each other. Raises RequestError."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise RequestError(
                "'max_tokens' and 'max_completion_tokens' are both set",
                where="max_tokens",
                fix="keep max_completion_tokens",
                code="invalid_parameter_combination",
            )
        refuse_stray_stream_options(self.stream_options, self.stream)
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError(
                "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled",
                where="top_logprobs",
                fix="set logprobs to true, or leave top_logprobs out",
                code="invalid_parameter_combination",
            )
        self._check_older()
        self._check_format()
        self._check_choice()

    def _check_older(self) -> None:
        """`functions` and `function_call` are what `tools` and `tool_choice` were called before."""
        pairs = (("functions", "tools"), ("function_call", "tool_choice"))
        newer = [new for _, new in pairs if getattr(self, new) is not None]
        for old, new in pairs:
            if getattr(self, old) is not None and newer:
                raise RequestError(
                    f"'{old}' does not go with '{newer[0]}'",
                    where=old,
                    fix=f"send {new} in its place",
                    code="invalid_parameter_combination",
                )

    def _check_format(self) -> None:
        wanted = self.response_format
        if wanted is None:
            return
        if wanted.type == "json_schema" and wanted.json_schema is None:
            raise RequestError(
                "Missing required parameter: 'response_format.json_schema'",
                where="response_format.json_schema",
                fix="send {name, schema} in it",
                code="missing_required_parameter",
            )
        if wanted.type != "json_schema" and wanted.json_schema is not None:
            raise RequestError(
                f"'response_format.json_schema' does not go with the type {wanted.type!r}",
                where="response_format.json_schema",
                fix="set the type to json_schema, or leave json_schema out",
                code="invalid_parameter_combination",
            )

    def _check_choice(self) -> None:
        choice = self._choice
        if choice is None:
            return
        where, tools = ("tool_choice", "tools") if self.tool_choice else ("function_call", "functions")
        offered = {tool.function.name for tool in self._offered}
        if choice.must and not offered:
            raise RequestError(
                f"A call is asked for and no {tools} are offered",
                where=where,
                fix=f"send {tools}, or leave {where} out",
                code="invalid_parameter_combination",
            )
        unknown = sorted((choice.names or frozenset()) - offered)
        if unknown:
            raise RequestError(
                f"These functions of '{where}' are not among '{tools}': {', '.join(unknown)[:300]}",
                where=where,
                fix=f"offer them in {tools}, or choose others",
                code="invalid_value",
            )

    def json_schema_text(self) -> str | None:
        """The JSON schema that an answer must fit, as text with its properties in their order; None for any text."""
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        schema = {"type": "object"} if wanted.json_schema is None else wanted.json_schema.schema_
        return json.dumps(schema, ensure_ascii=False)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a frame of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def _offered(self) -> list[Tool]:
        return self.tools or self.functions or []

    @property
    def _choice(self) -> ToolChoice | None:
        return self.tool_choice or self.function_call

    def offered_tools(self) -> list[dict[str, Any]]:
        """The tools that the model is told of and may call; none where the client wants no call."""
        none = self._choice is not None and self._choice.type == "none"
        return [] if none else [tool.sent for tool in self._offered]

    def tool_use(self) -> ToolUse:
        """Which of the tools may be called, whether one has to be, and how often."""
        choice = self._choice or ToolChoice(type="auto")
        one = self.parallel_tool_calls is False or choice.type == "function" or bool(self.functions)
        return ToolUse(choice.names, choice.must, 1 if one else None)

    def conversation(self) -> tuple[Message, ...]:
        """The messages as training reads them from a file: what is served is what was trained. Raises RequestError."""
        try:
            messages = read_messages([message.as_row() for message in self.messages])
        except RowError as error:
            raise RequestError(error.reason, where="messages", fix=error.fix, code="invalid_value") from None
        _refuse_lone_results(messages)
        return messages


def _refuse_lone_results(messages: Sequence[Message]) -> None:
    """Raises RequestError, in OpenAI's words, for a tool's message that answers no call of a turn before it."""
    made: set[str] = set()
    for number, message in enumerate(messages):
        made |= {str(call["id"]) for call in message.tool_calls}
        if message.tool_call_id is not None and message.tool_call_id not in made:
            raise RequestError(
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
                where=f"messages[{number}].role",
                code="invalid_value",
            )


class PromptDetails(BaseModel):
    """How many tokens of a prompt were computed for an earlier request already."""

    cached_tokens: int
    audio_tokens: Literal[0] = 0


class CompletionDetails(BaseModel):
    """Kinds of tokens that these models do not write; scripts read them without asking whether they are there."""

    reasoning_tokens: Literal[0] = 0
    audio_tokens: Literal[0] = 0
    accepted_prediction_tokens: Literal[0] = 0
    rejected_prediction_tokens: Literal[0] = 0


class WireUsage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails

    @classmethod
    def of(cls, read: int, written: int, cached: int) -> WireUsage:
        """As OpenAI shows it; `cached` of the tokens read were known before."""
        return cls(
            prompt_tokens=read,
            completion_tokens=written,
            total_tokens=read + written,
            # All by name: a frame of a stream leaves out what was not set.
            prompt_tokens_details=PromptDetails(cached_tokens=cached, audio_tokens=0),
            completion_tokens_details=CompletionDetails(
                reasoning_tokens=0, audio_tokens=0, accepted_prediction_tokens=0, rejected_prediction_tokens=0
            ),
        )


class AnswerMessage(BaseModel):
    """The assistant's turn; `tool_calls`, and `function_call` as its older form, are not sent where there are none."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    annotations: list[Any] = []
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        out: dict[str, Any] = handler(self)
        if self.function_call is None:
            del out["function_call"]
        if self.tool_calls is None:
            del out["tool_calls"]
        else:
            out["tool_calls"] = [call.model_dump(exclude_none=True) for call in self.tool_calls]
        return out


class TopLogprob(BaseModel):
    """A token that could have stood in a place: its text, its natural log-probability, its UTF-8 bytes."""

    token: str
    logprob: float
    bytes: list[int]


class ContentLogprob(TopLogprob):
    """The token that stands in a place, and the likeliest that could have."""

    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    """The log-probabilities of an answer's tokens, or of a frame's."""

    content: list[ContentLogprob]
    refusal: None = None


def wire_logprobs(tokens: Sequence[TokenLogprob]) -> Logprobs:
    """The engine's log-probabilities as OpenAI writes them; a token may be a part of a character."""
    return Logprobs(
        content=[
            ContentLogprob(
                **_token(token.token, token.logprob), top_logprobs=[TopLogprob(**_token(*other)) for other in token.top]
            )
            for token in tokens
        ],
        refusal=None,  # by name: a frame of a stream leaves out what was not set
    )


def _token(token: bytes, logprob: float | None) -> dict[str, Any]:
    return {
        "token": token.decode("utf-8", "replace"),
        "logprob": MIN_LOGPROB if logprob is None else max(logprob, MIN_LOGPROB),
        "bytes": list(token),
    }


class ChatChoice(BaseModel):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    logprobs: Logprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """The response to a chat request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    service_tier: Literal["default"] = "default"
    choices: list[ChatChoice]
    usage: WireUsage


class FunctionDelta(BaseModel):
    """What a frame adds to a call: its name, then its arguments."""

    name: str | None = None
    arguments: str


class CallDelta(BaseModel):
    """What a frame adds to one of an answer's tool calls."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class Delta(BaseModel):
    """What a frame adds to an answer; keys that are not set are not sent."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None
    tool_calls: list[CallDelta] | None = None
    function_call: FunctionDelta | None = None


class ChunkChoice(BaseModel):
    """What a frame says about one answer."""

    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class ChatChunk(BaseModel):
    """A frame of a stream; `usage` is only sent where it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    service_tier: Literal["default"]
    choices: list[ChunkChoice]
    usage: WireUsage | None = None


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────


class WireError(BaseModel):
    """What went wrong: in words, of what type, at which field, and by a stable code."""

    message: str
    type: Literal["invalid_request_error", "requests", "server_error"]
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """The body of every refusal."""

    error: WireError


# ── models ────────────────────────────────────────────────────────────────────────────────────────────────────


class WireModel(BaseModel):
    """A model that can be called."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    shutdown_date: None = None


class ModelList(BaseModel):
    """All models at once: OpenAI does not page this list."""

    object: Literal["list"] = "list"
    data: list[WireModel]


class ModelDeleted(BaseModel):
    """The receipt of a deletion."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True
