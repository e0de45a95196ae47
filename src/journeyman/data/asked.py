"""What was asked elsewhere: the inputs of a file to compare with, such as a public test set or a log of real traffic.

The file may be any that can be trained on, and besides that: rows that end on the user or have no output at all, and a
.txt file with one input a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from journeyman.data.check.rule import Asked
from journeyman.data.columns import INPUT_NAMES
from journeyman.data.lines import chunks, lines
from journeyman.data.read import read_rows, shown_path
from journeyman.data.refused import Row
from journeyman.data.sharegpt import ROLES
from journeyman.errors import DataError
from journeyman.records import Place
from journeyman.settings import MAX_LINE_BYTES


def read_asked(path: Path) -> list[Asked]:
    """The inputs of a file, in its order; rows in which nothing is asked are left out.

    Raises DataError as `read_rows` does, and `nothing_asked` where no row has an input.
    """
    if path.suffix.lower() == ".txt" and path.is_file():
        texts = ((line.data.decode("utf-8", "replace"), line.number) for line in lines(chunks(path), MAX_LINE_BYTES))
        found = [Asked(text.strip(), Place(shown_path(path), number)) for text, number in texts if text.strip()]
    else:
        rows = (row for row in read_rows(path) if isinstance(row, Row))
        found = [Asked(text, row.place) for row in rows if (text := _input(row.value).strip())]
    if not found:
        raise DataError(
            "no row of the file asks anything",
            where=shown_path(path),
            fix=f"give rows with messages, or with a column named {', '.join(INPUT_NAMES[:3])} or the like",
            code="nothing_asked",
        )
    return found


def _input(value: Mapping[str, Any]) -> str:
    for key in ("messages", "conversations"):
        if isinstance(value.get(key), list):
            return _of_turns(value[key])
    names = {str(name).strip().lower().replace(" ", "_").replace("-", "_"): text for name, text in value.items()}
    if isinstance(names.get("instruction"), str) and isinstance(names.get("input"), str):
        return f"{names['instruction']}\n\n{names['input']}".strip()
    named = [names[name] for name in INPUT_NAMES if isinstance(names.get(name), str)]
    texts = [text for text in value.values() if isinstance(text, str)]
    return named[0] if named else texts[0] if len(texts) == 1 else ""


def _of_turns(turns: Sequence[Any]) -> str:
    """What is asked, as `input_text` has it: the one turn before the last answer, or all of them with their roles."""
    said = [
        (ROLES.get(str(turn.get("role", turn.get("from"))).lower(), ""), turn.get("content", turn.get("value")))
        for turn in turns
        if isinstance(turn, Mapping)
    ]
    answers = [index for index, (role, _) in enumerate(said) if role == "assistant"]
    before = said[: answers[-1]] if answers and answers[-1] == len(said) - 1 else said
    asked = [(role, text) for role, text in before if role not in ("system", "") and isinstance(text, str)]
    return asked[0][1] if len(asked) == 1 else "\n".join(f"{role}: {text}" for role, text in asked)
