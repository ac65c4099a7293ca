"""How tasks are to be run: what `Pool.options` takes."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, get_args

from aioipc.errors import UnsupportedOperation

if TYPE_CHECKING:
    from aioipc.abc import Capabilities

__all__ = ["OnCancel", "Options", "check_options", "refuse"]

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
        if not -1 << 63 <= self.priority < 1 << 63:
            raise ValueError("priority must fit in 64 bits")
        if self.retries < 0:
            raise ValueError("retries must not be negative")

    def but(self, changes: dict[str, Any]) -> Self:
        """Return options that differ where `changes` has a value."""
        return replace(self, **{key: v for key, v in changes.items() if v is not ...})


_NEEDED_TO_CANCEL = {
    "interrupt": "can_kill_running",
    "kill": "can_kill_running",
    "abandon": "can_abandon_running",
}


def check_options(options: Options, capabilities: "Capabilities", pool: str) -> None:
    """Refuse options that a pool can't do.

    :param pool: what it is called in the error
    :raises UnsupportedOperation: and says which
    """
    if options.timeout is not None and not capabilities.can_time_out:
        refuse(pool, f"timeout={options.timeout!r}", "can_time_out")
    if options.priority and not capabilities.has_priorities:
        refuse(pool, f"priority={options.priority!r}", "has_priorities")
    if options.retries and not capabilities.can_retry:
        refuse(pool, f"retries={options.retries!r}", "can_retry")
    needed = _NEEDED_TO_CANCEL.get(options.on_cancel)
    if needed and not getattr(capabilities, needed):
        refuse(pool, f"on_cancel={options.on_cancel!r}", needed)


def refuse(pool: str, what: str, capability: str) -> NoReturn:
    """Say that a pool can't do something.

    :raises UnsupportedOperation: always
    """
    raise UnsupportedOperation(
        f"{pool} can't do {what}: its capabilities have {capability}=False", capability
    )
