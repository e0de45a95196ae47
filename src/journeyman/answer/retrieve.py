"""Retrieval: the passages of a folder, or the training examples, that are nearest to what is asked.

BM25 (Robertson and Zaragoza 2009, "The probabilistic relevance framework") with the library bm25s and its defaults,
k1 = 1.5 and b = 0.75. Words are letters and digits in lower case; nothing is left out as a stop word, since which
words say little is what BM25 itself weighs. Another index (`vectors.py`) can take its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import bm25s

from journeyman.errors import TaskError
from journeyman.records import Example, Message

PASSAGE_WORDS = 120
"""Passages of about this length: a paragraph or a short list, so that three of them fit a small context."""

SUFFIXES = (".md", ".txt", ".rst")


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document, with the line at which it begins and the headings above it."""

    document: str
    line: int
    text: str

    @property
    def place(self) -> str:
        """Document and line, as records of what was retrieved name it."""
        return f"{self.document}:{self.line}"


class Nearest(Protocol):
    """An index of texts."""

    def nearest(self, query: str, k: int) -> list[int]:
        """The places of at most `k` texts, nearest first."""


MakeIndex = Callable[[Sequence[str]], Nearest]


class Index:
    """Finds the texts that are nearest to a query; the same texts and query give the same order."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._count = len(texts)
        self._ids: dict[str, int] = {}
        words = [_words(text) for text in texts]
        for word in (word for text in words for word in text):
            self._ids.setdefault(word, len(self._ids))
        self._bm25 = bm25s.BM25() if self._ids else None
        if self._bm25 is not None:
            corpus = ([[self._ids[word] for word in text] for text in words], self._ids)
            self._bm25.index(corpus, show_progress=False)

    def nearest(self, query: str, k: int) -> list[int]:
        """The places of at most `k` texts, nearest first; texts that share no word with the query are left out."""
        known = [self._ids[word] for word in _words(query) if word in self._ids]
        if self._bm25 is None or not known:
            return []
        scores = self._bm25.get_scores_from_ids(known)
        order = sorted(range(self._count), key=lambda i: (-float(scores[i]), i))
        return [i for i in order[:k] if scores[i] > 0]


class Documents:
    """The passages of a folder, searched by what a conversation asks. The index is made with the first question."""

    def __init__(self, folder: Path, *, words: int = PASSAGE_WORDS, make_index: MakeIndex = Index) -> None:
        self.passages = passages(folder, words=words)
        self._make_index = make_index

    @cached_property
    def _index(self) -> Nearest:
        return self._make_index([passage.text for passage in self.passages])

    def nearest(self, conversation: Sequence[Message], k: int) -> tuple[Passage, ...]:
        """At most `k` passages, nearest first."""
        return tuple(self.passages[i] for i in self._index.nearest(asked_text(conversation), k))


class Examples:
    """Training examples, searched by what a conversation asks. The index is made with the first question."""

    def __init__(self, examples: Sequence[Example], *, make_index: MakeIndex = Index) -> None:
        self._examples = tuple(examples)
        self._make_index = make_index

    @cached_property
    def _index(self) -> Nearest:
        return self._make_index([asked_text(example.prompt) for example in self._examples])

    def nearest(self, conversation: Sequence[Message], k: int) -> tuple[Example, ...]:
        """At most `k` examples, nearest first."""
        return tuple(self._examples[i] for i in self._index.nearest(asked_text(conversation), k))


def asked_text(conversation: Sequence[Message]) -> str:
    """What the user said last; nothing where no user has spoken."""
    return next((m.content for m in reversed(conversation) if m.role == "user"), "")


def passages(folder: Path, *, words: int = PASSAGE_WORDS) -> tuple[Passage, ...]:
    """The passages of all text files below a folder, in the order of their names.

    A document is cut at empty lines; blocks are joined up to `words` words, and a longer block stands alone, cut
    between lines. Each passage begins with the headings above it. Raises TaskError `no_documents` where there is
    no text, and `unreadable_document` that names every file that is no UTF-8.
    """
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
    out: list[Passage] = []
    unreadable = []
    for path in found:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            unreadable.append(f"{path.relative_to(folder)}: {error}")
            continue
        out += _cut(str(path.relative_to(folder)), text, words)
    if unreadable:
        raise TaskError(
            f"{len(unreadable)} document(s) can't be read",
            where=str(folder),
            fix="save them as UTF-8 text",
            code="unreadable_document",
            problems=unreadable,
        )
    if not out:
        raise TaskError(
            f"there is no text in the documents; {', '.join(SUFFIXES)} files are read",
            where=str(folder),
            fix="put text files there, or take files.documents out of task.toml",
            code="no_documents",
        )
    return tuple(out)


def _cut(document: str, text: str, words: int) -> list[Passage]:
    """Blocks of lines, joined while they fit, each passage under its headings."""
    out: list[Passage] = []
    headings: list[str] = []
    held: list[str] = []
    start = 1
    for line, block in _blocks(text, words):
        heading = re.match(r"(#+)\s", block)
        if held and (heading or len(" ".join([*held, block]).split()) > words):
            out.append(_passage(document, start, headings, held))
            held = []
        if heading:
            headings = [h for h in headings if len(h) - len(h.lstrip("#")) < len(heading[1])]
            first, _, rest = block.partition("\n")
            headings.append(first)
            block, line = rest.strip(), line + 1
        if block:
            start = start if held else line
            held.append(block)
    if held:
        out.append(_passage(document, start, headings, held))
    return out


def _blocks(text: str, words: int) -> list[tuple[int, str]]:
    """Runs of lines between empty ones, with their first line's number; a run longer than `words` is cut between lines."""
    out: list[tuple[int, list[str]]] = []
    fresh = True
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            fresh = True
            continue
        if fresh or len(" ".join([*out[-1][1], line]).split()) > words:
            out.append((number, []))
        out[-1][1].append(line)
        fresh = False
    return [(number, "\n".join(lines)) for number, lines in out]


def _passage(document: str, line: int, headings: Sequence[str], blocks: Sequence[str]) -> Passage:
    return Passage(document, line, "\n".join([*headings, "\n\n".join(blocks)]))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
