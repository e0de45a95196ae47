"""The labels that a list is asked for, as the SDKs write them into the query: metadata[key]=value."""

from __future__ import annotations

import re

from fastapi import Request

_LABEL = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)


def labels_of(request: Request) -> dict[str, str]:
    """All labels that an object must bear to be listed."""
    return {m[1]: text for name, text in request.query_params.items() if (m := _LABEL.fullmatch(name))}
