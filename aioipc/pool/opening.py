"""`open_pool`: the pool that a program's configuration names."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from aioipc.abc import Pool

__all__ = ["open_pool"]

_HOMES = {
    "process": ("aioipc.pool.pool", "WorkerPool"),
    "thread": ("aioipc.pool.threads", "ThreadPool"),
    "inline": ("aioipc.testing.inline", "InlinePool"),
}
_DASK = "dask://"


def open_pool(
    where: str = "process",
    /,
    *,
    max_workers: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    grace: float | None = None,
    name: str | None = None,
) -> Pool:
    """Return a pool of the kind that `where` names, to be entered by ``async with``.

    The parameters are those that all pools have; for others, and for types that know
    more, make the pool by its class. What the pools can't all do is in their
    `capabilities`.

    :param where: ``"process"`` for a `WorkerPool`, ``"thread"`` for a `ThreadPool`,
        ``"inline"`` for an `aioipc.testing.InlinePool`, ``"dask://host:port"`` for a
        `DaskPool` of the cluster that has its scheduler there
    :param max_workers: how many there may be; None for the pool's own. An inline pool
        has one, whatever is allowed
    :param initializer: called in each worker before its first task, with `initargs`
    :param grace: seconds that `aclose` waits for tasks; None for the pool's own
    :param name: in `repr`
    :raises ValueError: if there is no such pool
    :raises ModuleNotFoundError: if it needs what is not installed; it says what
    """
    if max_workers is not None and max_workers < 1:
        raise ValueError("max_workers must be at least 1")
    given: dict[str, Any] = {"initializer": initializer, "initargs": initargs}
    given |= {"max_workers": max_workers, "grace": grace, "name": name}
    if where == "inline":
        del given["max_workers"]
    options = {key: value for key, value in given.items() if value is not None}
    if where.startswith(_DASK):
        return _dask_pool(where.removeprefix(_DASK), options)
    if where not in _HOMES:
        kinds = ", ".join(map(repr, (*_HOMES, f"{_DASK}host:port")))
        raise ValueError(f"there is no pool {where!r}: it must be one of {kinds}")
    home, kind = _HOMES[where]
    return getattr(import_module(home), kind)(**options)


def _dask_pool(address: str, options: Mapping[str, Any]) -> Pool:
    if not address:
        raise ValueError(f"{_DASK} must be followed by the scheduler's host:port")
    home = import_module("aioipc.dask")  # or it says what is to be installed
    return home.DaskPool(f"tcp://{address}", **options)
