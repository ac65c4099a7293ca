"""How tasks are to be run: what `Pool.options` takes."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

__all__ = ["OnCancel", "Options"]

OnCancel = Literal["interrupt", "kill", "abandon", "shield"]


@dataclass(frozen=True, slots=True)
class Options:
    """How tasks are to be run; see `aioipc.abc.Pool.options`."""

    timeout: float | None = None
    priority: int = 0
    retries: int = 0
    on_cancel: OnCancel = "interrupt"
    name: str | None = None

    def __post_init__(self) -> None:
        if self.on_cancel not in get_args(OnCancel):
            choices = ", ".join(map(repr, get_args(OnCancel)))
            raise ValueError(f"on_cancel must be one of {choices}")
        if self.timeout is not None and not 0 <= self.timeout < math.inf:
            raise ValueError("timeout must be a number of seconds, or None")
        if self.retries < 0:
            raise ValueError("retries must not be negative")

    def but(self, changes: dict[str, Any]) -> Self:
        """Return options that differ where `changes` has a value."""
        return replace(self, **{key: v for key, v in changes.items() if v is not ...})
