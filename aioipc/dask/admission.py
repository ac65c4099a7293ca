"""Which pools a worker of Dask's does not work for.

That is told here because Dask has no words for it: a worker whose plugin fails at its
start is given up for good, for others as well; and of a task that is released the
worker hears later, when it may have begun it.
"""

import pickle
from collections import OrderedDict

from distributed import WorkerPlugin

from aioipc.worker.failures import Failure, describe

__all__ = ["InitializeLater", "initialize", "refusal", "turn_away"]

_MOST = 10_000
"""Pools that a worker remembers."""

_CLOSED = Failure("", "the pool is closed", "", "start", None)

_pools: OrderedDict[str, Failure | None] = OrderedDict()  # None is welcome


class InitializeLater(WorkerPlugin):
    """Has workers that come later call a pool's initializer.

    :param topic: of the pool
    :param packed: a pickle of the function and its arguments
    """

    def __init__(self, topic: str, packed: bytes) -> None:
        self._topic = topic
        self._packed = packed

    def setup(self, worker: object) -> None:  # noqa: ARG002 - Dask's signature
        initialize(self._topic, self._packed)

    def teardown(self, worker: object) -> None:  # noqa: ARG002
        if refusal(self._topic) is None:
            _pools.pop(self._topic, None)


def initialize(topic: str, packed: bytes) -> Failure | None:
    """Call a pool's initializer, once in a process; return how it failed."""
    if topic not in _pools:
        _note(topic, _failure(packed))
    return _pools[topic]


def _failure(packed: bytes) -> Failure | None:
    try:
        function, args = pickle.loads(packed)
        function(*args)
    except BaseException as error:  # noqa: BLE001 - whatever the user's function raises
        return describe(error, "start")
    return None


def turn_away(topic: str) -> None:
    """Begin no more tasks of a pool."""
    _note(topic, _CLOSED)


def refusal(topic: str) -> Failure | None:
    """Return why no task of a pool is to begin here, if that is so."""
    return _pools.get(topic)


def _note(topic: str, failure: Failure | None) -> None:
    _pools[topic] = failure
    if len(_pools) > _MOST:
        _pools.popitem(last=False)
