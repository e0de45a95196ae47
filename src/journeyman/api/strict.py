"""What all request bodies share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A typo in a request is an error that names the field, and "1" is not a number."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
"""OpenAI's limits: 16 pairs, keys of 64 and values of 512 characters."""
