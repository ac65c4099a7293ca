"""Tables of the docs that come from the code itself, by their names.

They stand between ``<!-- table: NAME -->`` and ``<!-- /table -->``, and are brought in
step together with the figures.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import aioipc
from aioipc.dask import DaskPool
from aioipc.testing import InlinePool
from benchmarks.figures import Results, table

if TYPE_CHECKING:
    from collections.abc import Callable

POOLS: dict[str, Callable[[], Any]] = {
    "`WorkerPool`": aioipc.WorkerPool,
    "`ThreadPool`": aioipc.ThreadPool,
    "`InlinePool`": InlinePool,
    "`DaskPool`": DaskPool,
}


def capabilities(_results: Results) -> str:
    """What each pool can do, as it says of itself."""
    kind = aioipc.Capabilities
    meanings = ivars(inspect.getdoc(kind) or "")
    can = [make().capabilities for make in POOLS.values()]
    rows = [
        [
            f"`{field.name}`",
            meanings[field.name],
            *("yes" if getattr(each, field.name) else "no" for each in can),
        ]
        for field in fields(kind)
    ]
    return table(["", "", *POOLS], rows)


def ivars(docstring: str) -> dict[str, str]:
    """The meanings of attributes, as a docstring tells them."""
    told = re.findall(r"^:ivar (\w+): (.*(?:\n    .*)*)", docstring, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in told}


TABLES: dict[str, Callable[[Results], str]] = {"capabilities": capabilities}
