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
    WireUsage,
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
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    user: str | None = None

    def check(self) -> None:
        """Refuse fields that contradict each other. Raises RequestError."""
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise RequestError(
                f"best_of is {self.best_of} and n {self.n}",
                where="best_of",
                fix="ask for at least as many answers as shall be given",
                code="invalid_value",
            )
        if self.stream and self.tries > (self.n or 1):
            raise RequestError(
                "The best answers are known when all are written, so that they can't be streamed",
                where="best_of",
                fix="set stream to false, or leave best_of out",
                code="invalid_parameter_combination",
            )
        refuse_stray_stream_options(self.stream_options, self.stream)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a frame of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def tries(self) -> int:
        """How many answers to each prompt are written, of which the `n` best are given."""
        return self.best_of or self.n or 1

    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class TextLogprobs(BaseModel):
    """The log-probabilities of a text's tokens, one list for each thing said of them. A prompt's first token has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One answer to one prompt."""

    text: str
    index: int
    logprobs: TextLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None


class TextCompletion(BaseModel):
    """The response to a completion request."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: WireUsage
