"""Answers held to a JSON schema or a grammar: at each token, what could not lead to a fitting answer is forbidden.

The grammar is llguidance's (https://github.com/guidance-ai/llguidance), which reads a schema and walks the bytes of
the tokens; here are its vocabulary, its limits in words, and the mask. `call_grammar.py` writes grammars of tool calls.

Shapes: V vocabulary, as wide as the logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from tokenizers import Tokenizer

from journeyman.errors import RequestError
from journeyman.text.template import ChatFormat

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

    from journeyman.generate.sampling import Sampling

ANY_OBJECT = '{"type": "object"}'
"""The schema that any JSON object fits."""

BETWEEN: Final = r" |\r?\n( {0,16}|\t{0,8})"
"""What may stand between two marks: nothing, a space, or a line break with its indentation. JSON allows any
whitespace, and a model that is unsure could then write nothing else to its last token."""

_READS_PATTERNS = tuple(int(part) for part in version("llguidance").split(".")[:2]) >= (1, 8)
"""Before 1.8, which vLLM holds on to, llguidance takes a whitespace pattern for none; JSON is then written without any."""

JSON_RULES: Final[JsonCompileOptions] = (
    {"whitespace_pattern": BETWEEN, "lenient": False, "coerce_one_of": True}
    if _READS_PATTERNS
    else {"whitespace_flexible": False, "lenient": False, "coerce_one_of": True}
)
"""How schemas are read; a client can't loosen it. `oneOf` is read as `anyOf` where no value can fit two of its branches,
as in pydantic's discriminated unions; json_grammar refuses it elsewhere."""

_FIELD = "response_format.json_schema.schema"


class Vocabulary:
    """A model's tokens as bytes, read once at the first constraint: for a large vocabulary that takes a second."""

    def __init__(self, chat: ChatFormat) -> None:
        self._chat = chat

    @cached_property
    def tokens(self) -> LLTokenizer:
        """llguidance's form of the tokenizer; an answer ends at any of the model's stop tokens."""
        tokenizer = Tokenizer.from_str(self._chat.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return LLTokenizer(tokenizer.to_str(), eos_token=list(self._chat.stop_ids))


def json_grammar(schema: str, *, where: str = _FIELD) -> str:
    """The grammar of JSON values that fit `schema` (a JSON schema as text).

    Raises RequestError (`invalid_json_schema`, at the field `where`) where the schema is none, or uses what can't be
    held to token by token, such as `not` and `uniqueItems`.
    """
    try:
        grammar = str(LLMatcher.grammar_from_json_schema(schema, overrides=JSON_RULES))
    except ValueError as error:
        raise _invalid(str(error), where) from None
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if failed:
        raise _invalid(messages[0], where)
    if any(message.startswith("oneOf") for message in messages):
        raise _invalid("oneOf has branches that the same value can fit; write anyOf, or tell them apart by a const", where)
    return grammar


def json_rule(schema: Mapping[str, Any]) -> str:
    """JSON values that fit `schema`, as the right side of a rule in llguidance's form of Lark."""
    return f"%json {json.dumps({**schema, 'x-guidance': JSON_RULES})}"


class Constraint:
    """What one answer may still say, so that it ends as its grammar has it.

    Only an answer that is cut, by `max_tokens` or a stop text, can be less than whole. Raises RequestError
    (`invalid_json_schema`, at the field `where`) where nothing can fit the grammar.
    """

    def __init__(self, grammar: str, vocabulary: Vocabulary, *, where: str = _FIELD) -> None:
        self._where = where
        # log_level 0: what is wrong is raised, not written to standard error
        self._matcher = LLMatcher(vocabulary.tokens, grammar, log_level=0)
        # The first step finds what compiling does not: a schema that refers to nothing but itself.
        self._matcher.compute_bitmask()
        self._raise_error()

    @classmethod
    def of(cls, sampling: Sampling, vocabulary: Vocabulary) -> Constraint | None:
        """The constraint that a request asks for; None where its answer is free. Raises RequestError as above."""
        if sampling.grammar is not None:
            return cls(sampling.grammar, vocabulary, where="tools")
        if sampling.json_schema is not None:
            return cls(json_grammar(sampling.json_schema), vocabulary)
        return None

    def mask(self, logits_V: torch.Tensor) -> torch.Tensor:
        """The logits with every forbidden token at -inf. A stop token is allowed where the value is complete.

        Raises RequestError where the schema is too complex to be followed further.
        """
        bits = self._matcher.compute_bitmask()
        self._raise_error()
        allowed = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little")
        # Models pad their vocabulary, and llguidance its bits: what is no token of both is never written.
        width = min(len(allowed), len(logits_V))
        allowed_V = torch.zeros(len(logits_V), dtype=torch.bool)
        allowed_V[:width] = torch.from_numpy(allowed[:width].astype(bool))
        return logits_V.masked_fill(~allowed_V.to(logits_V.device), float("-inf"))

    def take(self, token_id: int) -> None:
        """Go on after a token that the mask allowed."""
        self._matcher.consume_token(token_id)
        self._raise_error()

    def _raise_error(self) -> None:
        if self._matcher.is_error():
            raise _invalid(self._matcher.get_error(), self._where)


def _invalid(reason: str, where: str) -> RequestError:
    """llguidance's reason in one line, without the state of its parser that may follow."""
    words = reason.partition("<state>")[0].split()
    # llguidance's name for a parser with no way on
    said = "nothing can fit it" if words[:1] == ["NoExtensionBias"] else " ".join(words)
    return RequestError(
        f"no answer can be held to this JSON schema: {said[:300]}",
        where=where,
        fix="change or leave out what is named",
        code="invalid_json_schema",
    )
