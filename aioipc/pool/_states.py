"""What the scheduler knows of a worker: the table of its life, and its tasks."""

import enum
import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioipc.pool.task import Call

__all__ = ["IN_SERVICE", "State", "Worker"]


class State(enum.Enum):
    """A worker's life."""

    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"
    KILLED = "killed"
    GONE = "gone"


_MOVES: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.READY, State.KILLED, State.GONE}),
    State.READY: frozenset({State.RETIRING, State.KILLED, State.GONE}),
    State.RETIRING: frozenset({State.KILLED, State.GONE}),
    State.KILLED: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


IN_SERVICE = {State.STARTING, State.READY}


class Worker:
    """What the scheduler knows of one worker process.

    :ivar sent: tasks that it has been sent and has not answered, in order
    :ivar batches: how many batches it has not told to be done
    :ivar draining: whether it gets nothing new until they are
    :ivar spent: whether it has taken all its tokens, as far as is known
    :ivar finished: tasks that it has answered
    :ivar leaving: whether it is to be replaced as soon as its successor is ready
    """

    __slots__ = (
        "batches",
        "deadline",
        "doomed",
        "draining",
        "finished",
        "kill_at",
        "leaving",
        "number",
        "planned",
        "sent",
        "since",
        "spent",
        "state",
    )

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.state = State.STARTING
        self.sent: deque[Call] = deque()
        self.planned: deque[tuple[float, list[Call]]] = deque()  # of each batch
        self.batches = 0
        self.draining = False
        self.spent = False
        self.finished = 0
        self.leaving = False
        self.since = now  # when it was started, or became idle
        self.deadline = math.inf  # of the running task
        self.doomed: Call | None = None  # a task that is to end
        self.kill_at = math.inf  # unless it has ended before

    def move(self, state: State) -> None:
        """Go on to the next state of its life."""
        if state not in _MOVES[self.state]:
            msg = f"worker {self.number} can't go from {self.state} to {state}"
            raise RuntimeError(msg)
        self.state = state

    @property
    def is_idle(self) -> bool:
        """Whether it is in service and has nothing to do."""
        return self.state is State.READY and not self.batches

    def __repr__(self) -> str:
        return f"<Worker {self.number} {self.state.value} tasks={len(self.sent)}>"
