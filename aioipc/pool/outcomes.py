"""What a task raised, as an exception of the coordinator's."""

from concurrent.futures import CancelledError

from aioipc.errors import DecodeError, EncodeError, TaskError, WorkerTraceback
from aioipc.wire.pickles import loads
from aioipc.worker.failures import Failure

__all__ = ["error_of", "load_failure"]

# Raised by an await, these end a coroutine or a generator, or look like a cancel.
_STEERING = (StopIteration, StopAsyncIteration, CancelledError)


def load_failure(body: bytes) -> Failure:
    """Load what a worker sent as an ERROR."""
    return loads(body)


def error_of(failure: Failure, name: str) -> BaseException:
    """Return what is to be raised for the failure of the task `name`."""
    said = f"{failure.kind}: {failure.text}" if failure.text else failure.kind
    if failure.doing == "load":
        error = DecodeError(f"the worker can't unpickle task {name}: {said}")
    elif failure.doing == "pickle":
        error = EncodeError(f"the result of task {name} can't be pickled: {said}")
    else:
        error = failure.rebuild()
        if not isinstance(error, Exception) or isinstance(error, _STEERING):
            error = TaskError(f"task {name} raised {said}", failure.kind)
    error.__cause__ = WorkerTraceback(f"in the worker:\n\n{failure.trace}")
    return error
