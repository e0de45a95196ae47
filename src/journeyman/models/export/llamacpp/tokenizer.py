"""A byte-level BPE tokenizer in GGUF, and back.

GGUF names a pre-tokenizer (how text is cut before merges apply) instead of describing it; llama.cpp has each one's
rule compiled in (`src/llama-vocab.cpp`). We find the name by the definition in tokenizer.json, never by a model's
name, and refuse a definition we don't know: a tokenizer that cuts differently answers differently.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from journeyman.errors import ExportError
from journeyman.text.template import ChatFormat


class TokenType(IntEnum):
    """llama.cpp's kinds of tokens, as GGUF numbers them."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One of llama.cpp's: `cuts` in order, and whether a piece that is a token stays whole whatever the merges say.

    `approximated` is what llama.cpp runs where its expressions can't say the rule; `inexact` says where that differs.
    """

    name: str
    cuts: tuple[str, ...]
    ignore_merges: bool = False
    approximated: str | None = None
    inexact: str | None = None


_DIGITS = "digits one by one"
_GPT2 = "GPT-2's expression"
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LAST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
) + _LAST
_TEKKEN_IN_LLAMA_CPP = (
    r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+"
    r"|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|\p{N}"
) + _LAST
_QWEN2 = _CL100K.replace(r"\p{N}{1,3}", r"\p{N}")

PRE_TOKENIZERS = (
    PreTokenizer("gpt-2", (_GPT2,)),
    PreTokenizer("smollm", (_DIGITS, _GPT2)),
    PreTokenizer("qwen2", (_QWEN2,)),
    PreTokenizer("llama-bpe", (_CL100K,), ignore_merges=True),
    PreTokenizer("dbrx", (_CL100K,)),
    PreTokenizer(
        "tekken",
        (_TEKKEN,),
        ignore_merges=True,
        approximated=_TEKKEN_IN_LLAMA_CPP,
        inexact="llama.cpp cuts words with combining marks (Devanagari, vowel marks, decomposed accents) otherwise "
        "than this model's tokenizer",
    ),
)
"""llama.cpp cuts as `tokenizers` does by these, but for `inexact` (`tests/models/test_llama_cpp.py`)."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer as GGUF holds it. `ids` are the special tokens by GGUF's names (`bos`, `eos`, ...)."""

    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    ids: Mapping[str, int]
    adds_bos: bool
    adds_eos: bool


def vocabulary(chat: ChatFormat, rows: int) -> Vocabulary:
    """The tokenizer of a model whose embedding has `rows` rows.

    Raises ExportError, naming everything that llama.cpp's byte-level BPE does otherwise.
    """
    form = json.loads(chat.tokenizer.to_str())
    added = chat.tokenizer.get_added_tokens_decoder()
    by_id = {i: text for text, i in chat.tokenizer.get_vocab(with_added_tokens=True).items()}
    ids = _special_ids(chat)
    before, after = _added_around(chat.tokenizer)
    pre = _pre_tokenizer(form)
    problems = [*_problems(form), *_token_problems(added)]
    if pre is None:
        problems.append(f"its pre-tokenizer is none of {', '.join(p.name for p in PRE_TOKENIZERS)}")
    if max(by_id) >= rows:
        problems.append(f"token {max(by_id)} has no row in the embedding, which has {rows}")
    if before not in ([], [ids.get("bos")]) or after not in ([], [ids.get("eos")]):
        problems.append(
            f"it puts tokens {before} before and {after} after a text; llama.cpp only knows bos and eos"
        )
    if problems or pre is None:
        raise ExportError(
            "llama.cpp would tokenize differently",
            where="tokenizer.json",
            fix="export with --to merged; llama.cpp's own convert_hf_to_gguf.py reads that folder and knows further tokenizers",
            code="export_unsupported",
            problems=problems,
        )
    return Vocabulary(
        pre=pre.name,
        tokens=tuple(by_id.get(i, f"[PAD{i}]") for i in range(rows)),
        types=tuple(_type(i, added, by_id) for i in range(rows)),
        merges=tuple(m if isinstance(m, str) else " ".join(m) for m in form["model"]["merges"]),
        ids=ids,
        adds_bos=bool(before),
        adds_eos=bool(after),
    )


def rebuild(vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer that a GGUF file describes, made of what stands in the file alone."""
    pre = next(p for p in PRE_TOKENIZERS if p.name == vocabulary.pre)
    kinds = list(zip(vocabulary.tokens, vocabulary.types, strict=True))
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: i for i, (token, kind) in enumerate(kinds) if kind != TokenType.UNUSED},
            merges=[(a, b) for a, _, b in (merge.partition(" ") for merge in vocabulary.merges)],
            ignore_merges=pre.ignore_merges,
        )
    )
    tokenizer.pre_tokenizer = _cutters(pre)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True) for t, kind in kinds if kind == TokenType.CONTROL]
    )
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False) for t, kind in kinds if kind == TokenType.USER_DEFINED]
    )
    return tokenizer


def _cutters(pre: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """As llama.cpp cuts."""
    steps: list[pre_tokenizers.PreTokenizer] = []
    for cut in (pre.approximated,) if pre.approximated else pre.cuts:
        if cut == _DIGITS:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        elif cut != _GPT2:
            steps.append(pre_tokenizers.Split(Regex(cut), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=_GPT2 in pre.cuts))
    return pre_tokenizers.Sequence(steps)


def composed(chat: ChatFormat, text: str) -> str:
    """Text as the tokenizer's own normalizer leaves it: llama.cpp has none, and must be given this."""
    return str(chat.tokenizer.normalizer.normalize_str(text)) if chat.tokenizer.normalizer else text


def notes(chat: ChatFormat, vocabulary: Vocabulary) -> list[str]:
    """Where llama.cpp reads text otherwise than this model's tokenizer, in words."""
    inexact = next(p.inexact for p in PRE_TOKENIZERS if p.name == vocabulary.pre)
    found = [inexact] if inexact else []
    if chat.tokenizer.normalizer is not None:
        found.append("llama.cpp does not compose Unicode (NFC) as this tokenizer does: give it composed text")
    return found


def _special_ids(chat: ChatFormat) -> dict[str, int]:
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    found = {key: chat.tokenizer.token_to_id(chat.special.get(name, "")) for key, name in names.items()}
    ids = {key: i for key, i in found.items() if i is not None}
    return ids if ids.get("eos") == chat.end_of_turn_id else {**ids, "eot": chat.end_of_turn_id}


def _added_around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The tokens that encoding puts before and after a plain text."""
    bare = tokenizer.encode("x", add_special_tokens=False).ids
    whole = tokenizer.encode("x").ids
    start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def _type(token_id: int, added: Mapping[int, AddedToken], by_id: Mapping[int, str]) -> TokenType:
    if token_id in added:
        return TokenType.CONTROL if added[token_id].special else TokenType.USER_DEFINED
    return TokenType.NORMAL if token_id in by_id else TokenType.UNUSED


def _problems(form: Mapping[str, Any]) -> Iterator[str]:
    model = form["model"]
    if model["type"] != "BPE" or (form.get("decoder") or {}).get("type") not in ("ByteLevel",):
        yield f"it is {model['type']} over characters or pieces, not byte-level BPE"
        return
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            yield f"{name} is {model[name]!r}"
    if (normalizer := form.get("normalizer")) is not None and normalizer["type"] != "NFC":
        yield f"it normalizes text ({normalizer['type']})"


def _token_problems(added: Mapping[int, AddedToken]) -> Iterator[str]:
    for token in added.values():
        if traits := [name for name in ("lstrip", "rstrip", "single_word") if getattr(token, name)]:
            yield f"{token.content!r} takes {' and '.join(traits)} into account"


def _pre_tokenizer(form: Mapping[str, Any]) -> PreTokenizer | None:
    """llama.cpp's pre-tokenizer of the same definition, or None."""
    steps = list(_steps(form.get("pre_tokenizer")))
    if not steps or steps[-1]["type"] != "ByteLevel":
        return None
    cuts = tuple(cut for step in steps if (cut := _cut(step)) != "")
    ignores = bool(form["model"].get("ignore_merges"))
    return next((p for p in PRE_TOKENIZERS if (p.cuts, p.ignore_merges) == (cuts, ignores)), None)


def _steps(node: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    if node is None:
        return []
    return (
        [s for part in node["pretokenizers"] for s in _steps(part)] if node["type"] == "Sequence" else [node]
    )


def _cut(step: Mapping[str, Any]) -> str:
    """A step's rule in our words, "" where it cuts nothing; what has no words comes as it stands and matches nothing."""
    match step:
        case {"type": "Digits", "individual_digits": True}:
            return _DIGITS
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(regex)}:
            return _GPT2 if regex else ""
        case {"type": "Split", "pattern": {"Regex": str(rule)}, "behavior": "Isolated", "invert": False}:
            return rule
        case {"type": "Split", "pattern": {"Regex": str(rule)}, "behavior": "Removed", "invert": True}:
            return rule  # these expressions match every character, so that nothing but their matches is left
    return json.dumps(dict(step))
