"""Tokens to text while they arrive: no half characters, and nothing beyond a stop text."""

from __future__ import annotations

from collections.abc import Sequence

from journeyman.text.template import ChatFormat

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Turns one answer's tokens into pieces of text that can be shown at once.

    A character of several bytes may be spread over tokens, so a piece is held back until it is whole; text that
    could be the beginning of a stop text is held back until it is known not to be.
    """

    def __init__(self, chat: ChatFormat, stop: Sequence[str] = ()) -> None:
        self._chat = chat
        self._stop = tuple(s for s in stop if s)
        self._ids: list[int] = []
        self._start = 0
        self._seen = 0
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Add a token; return the text that may be shown now."""
        self._ids.append(token_id)
        before = self._chat.text(self._ids[self._start : self._seen])
        now = self._chat.text(self._ids[self._start :])
        if now.endswith(_INCOMPLETE):
            return ""
        # Some tokenizers take a space away at the beginning of what is decoded, so that it must begin with something shown.
        self._start, self._seen = self._seen if now != before else self._start, len(self._ids)
        return self._release(now[len(before) :])

    def finish(self) -> str:
        """The text still held back when no further token comes."""
        if self.stopped:
            return ""
        rest = self._chat.text(self._ids[self._start :])[len(self._chat.text(self._ids[self._start : self._seen])) :]
        self._seen = len(self._ids)
        held, self._held = self._held + rest, ""
        return self._cut(held)

    def _release(self, piece: str) -> str:
        text = self._cut(self._held + piece)
        keep = 0 if self.stopped else self._possible_stop(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _cut(self, text: str) -> str:
        positions = [p for s in self._stop if (p := text.find(s)) >= 0]
        if not positions:
            return text
        self.stopped = True
        return text[: min(positions)]

    def _possible_stop(self, text: str) -> int:
        """How many characters at the end could be the beginning of a stop text."""
        longest = 0
        for stop in self._stop:
            for length in range(1, min(len(stop), len(text)) + 1):
                if text.endswith(stop[:length]):
                    longest = max(longest, length)
        return longest
