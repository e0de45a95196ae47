"""What `--fix` does about each rule, and which of its mends a person must ask for.

A mend of a rule that is not in DOES is never made, so that what the documentation says of a rule is all that happens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from journeyman.data.check.finding import Mend, SetOutput
from journeyman.data.similar import normalised

_ASKED = "only with `--relabel`; otherwise they stay as they are, and are counted"

DOES: Mapping[str, str] = {
    "refused_rows": "leaves them out, whatever else is chosen: nothing can be learned from them",
    "secrets": "writes a tag such as [SECRET_1] in the place of each, in every text of the row",
    "private_data": "writes stand-ins in its place, in every text of the row",
    "leakage": "drops training rows that ask the same as a validation or held-out row; those that ask nearly the same stay",
    "contradictory_outputs": f"gives rows that stand against a clear majority (three to one) its output, {_ASKED}",
    "stray_labels": "corrects case, white space, hyphens and underscores of a label; "
    f"any other output gets the label that it seems to mean {_ASKED}",
    "mislabelled_rows": f"writes the suggested label where the models are sure of it, {_ASKED}",
    "duplicate_rows": "keeps the first of each and drops the others",
    "near_duplicate_rows": "drops rows that say the same as an earlier one but for politeness, word order and misspellings, "
    "and have its output; those that are only near stay",
    "inconsistent_format": "takes a JSON object out of the words or the code fence around it, where the other outputs are objects; "
    "anything else stays",
}  # fmt: skip
"""What `--fix` does with the rows of a rule, the rest of a sentence. It leaves those of any other rule as they are."""

SUGGESTING = frozenset({"contradictory_outputs", "stray_labels", "mislabelled_rows"})
"""Rules whose mend is another ideal output, which a person must take the blame for."""


def does(code: str) -> str:
    """What `--fix` does with the rows that a rule names, as a sentence."""
    return f"`--fix` {DOES.get(code, 'leaves these rows as they are')}."


def is_suggestion(code: str, mend: Mend, output: str) -> bool:
    """Whether a mend would change what the row's ideal `output` means, rather than how it is spelt."""
    return code in SUGGESTING and isinstance(mend, SetOutput) and _spelling(mend.output) != _spelling(output)


_JOINTS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")


def _spelling(text: str) -> str:
    """The text without case, and without what may join words; a sign before a word may be a minus, and stays."""
    return _JOINTS.sub("", normalised(text))
