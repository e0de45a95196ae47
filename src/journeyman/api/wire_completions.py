"""OpenAI's wire shapes for completions, the older API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from journeyman.api.strict import Strict
from journeyman.api.wire import (
    MAX_SEED,
    Bias,
    Penalty,
    StopTexts,
    StreamOptions,
    TokenId,
    empty,
    only,
    refuse_stray_stream_options,
)
from journeyman.errors import RequestError

Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1, max_length=128)]
Prompts = Annotated[list[Ids], Field(min_length=1, max_length=128)]


class CompletionRequest(Strict):
    """The body of POST /v1/completions: a text, a list of them, or the same as token ids."""

    model: str = Field(min_length=1)
    prompt: str | Texts | Ids | Prompts
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None
    echo: bool | None = None
    stop: StopTexts = None
    seed: Annotated[int, Field(ge=-MAX_SEED, le=MAX_SEED)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[TokenId, Bias] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: Annotated[Any, only(empty, "Text can't be filled in between here.")] = None
    logprobs: Annotated[Any, only(lambda v: False, "Log-probabilities are not available on this route.")] = (
        None
    )
    user: str | None = None

    def check(self) -> None:
        """Refuse fields that contradict each other. Raises RequestError."""
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise RequestError(
                "Unsupported parameter: 'best_of' other than n",
                where="best_of",
                fix="leave best_of out, and choose of n answers",
                code="unsupported_parameter",
            )
        refuse_stray_stream_options(self.stream_options, self.stream)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a frame of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class TextChoice(BaseModel):
    """One answer to one prompt."""

    text: str
    index: int
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None


class TextCompletion(BaseModel):
    """The response to a completion request."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: dict[str, int]
