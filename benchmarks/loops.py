"""The event loops that awaiting contestants run on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio", "backend_options": {"debug": False}},
    "uvloop": {
        "backend": "asyncio",
        "backend_options": {"debug": False, "use_uvloop": True},
    },
    "trio": {"backend": "trio"},
}

# anyio imports these when a loop starts; imported here, no measurement pays for it.
for _module in ("anyio._backends._asyncio", "anyio._backends._trio", "uvloop"):
    import_module(_module)


def run_on(loop: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run ``function(*args)`` to its end on a new loop of that name."""
    return anyio.run(function, *args, **LOOPS[loop])
