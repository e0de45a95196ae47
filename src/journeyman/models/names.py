"""Model ids in OpenAI's form: ft:<base>:<org>:<suffix>:<8 base62>."""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import dataclass

from journeyman.errors import PlanError

_BASE62 = string.ascii_letters + string.digits
_ID = re.compile(r"ft:(?P<base>[^:]+):(?P<org>[^:]*):(?P<suffix>[^:]*):(?P<key>[A-Za-z0-9]{8})")

CHECKPOINT = ":ckpt-step-"
"""What stands before the step in a checkpoint's name, and in no other model's."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """The parts of a fine-tuned model's id."""

    base: str
    org: str
    suffix: str
    key: str

    def __str__(self) -> str:
        return f"ft:{self.base}:{self.org}:{self.suffix}:{self.key}"

    @classmethod
    def parse(cls, text: str) -> ModelName | None:
        """The parts, or None where `text` is not the id of a fine-tuned model."""
        match = _ID.fullmatch(text)
        return cls(**match.groupdict()) if match else None


def new_name(base: str, org: str, suffix: str) -> ModelName:
    """A fresh id. Raises PlanError where the suffix can't be part of one."""
    check_suffix(suffix)
    return ModelName(base, org, suffix, random_key(8))


def check_suffix(suffix: str) -> None:
    """OpenAI allows 1 to 64 characters; ours must also survive in URLs and file names."""
    if suffix and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", suffix):
        raise PlanError(
            f"suffix {suffix!r} can't be part of a model id",
            where="suffix",
            fix="use 1 to 64 letters, digits, '.', '-' or '_'",
        )


def random_key(length: int) -> str:
    """Random base62 characters, for ids."""
    return "".join(secrets.choice(_BASE62) for _ in range(length))
