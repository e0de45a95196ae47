"""What a model would see and learn, in runs of text: for people who want to look."""

from __future__ import annotations

from itertools import groupby

from journeyman.text.encode import Encoded
from journeyman.text.template import ChatFormat


def runs(encoded: Encoded, chat: ChatFormat) -> list[tuple[str, bool]]:
    """The sequence's text, special tokens included, cut where learned and not learned tokens meet."""
    pairs = zip(encoded.ids_T.tolist(), encoded.weights_T.tolist(), strict=True)
    return [
        (str(chat.tokenizer.decode([i for i, _ in group], skip_special_tokens=False)), learned)
        for learned, group in groupby(pairs, key=lambda pair: pair[1] > 0)
    ]
