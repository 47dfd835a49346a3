"""The events of ``medmail schema``."""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Schema:
    """The JSON Schema of one line of a command's output."""

    type: ClassVar[str] = "schema"
    command: str
    schema: dict[str, Any]


@dataclass(frozen=True)
class Code:
    """A code, the process exit it leads to, and what it says."""

    type: ClassVar[str] = "code"
    code: str
    leads_to: int
    message: str
