"""What workers of pools are asked to do in the tests."""

import ctypes
import dataclasses
import gc
import multiprocessing
import os
import resource
import sys
import threading
import time
from pathlib import Path


class TwoArguments(Exception):
    """Pickles, but can't be rebuilt by calling it with its `args`."""

    def __init__(self, first, second) -> None:
        super().__init__(f"{first} and {second}")


class WithState(Exception):
    def __init__(self, text, *, code) -> None:
        super().__init__(text)
        self.code = code


class NotToBePickled(Exception):
    def __reduce__(self):
        raise TypeError("not to be pickled")


class Unloadable:
    """Pickles, and raises when it is loaded."""

    def __reduce__(self):
        return int, ("not a number",)


class Witness:
    """Notes in which threads it is pickled."""

    threads = []  # noqa: RUF012

    def __reduce__(self):
        self.threads.append(threading.current_thread())
        return int, ()


class Unpicklable(Exception):
    """As above, as an exception."""

    def __reduce__(self):
        return int, ("not a number",)


def fail_with(error):
    raise error


class Incomparable:
    """Like an array: what `==` returns has no truth."""

    def __eq__(self, other):
        raise ValueError("the truth value is ambiguous")

    __hash__ = None


class Untellable(Exception):
    def __str__(self):
        raise SystemExit

    def __reduce__(self):
        raise SystemExit


def fail_untellably():
    raise Untellable


def fail_at_two(item):
    if item == 2:
        raise ValueError("bad rows", Incomparable())
    return item


def fail_with_two(first, second):
    raise TwoArguments(first, second)


def fail_with_state(text, code):
    raise WithState(text, code=code)


def fail_unpicklably():
    error = NotToBePickled("the reason")
    error.lock = __import__("threading").Lock()
    raise error


def recurse():
    return recurse()


def return_lambda():
    return lambda: None


def tell(path) -> None:
    """Tell the test that we are here, through a pipe of its."""
    with Path(path).open("wb", buffering=0) as pipe:
        pipe.write(b"!")


async def has_begun(path):
    """Wait until a task has told; in the coordinator."""
    from anyio import Path  # not in a worker

    assert await Path(path).read_bytes() == b"!"


def loop_forever(path):
    tell(path)
    while True:
        pass


def now():
    return time.perf_counter_ns()  # the same clock in every process


def sleep(seconds):
    time.sleep(seconds)  # not the test's own, which is watched


def sleep_forever(path):
    tell(path)
    time.sleep(1e6)


def hold_gil(path):
    """Stay in C code that does not let go of the GIL."""
    tell(path)
    sum(range(10**15))


def spin(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def touch(path):
    Path(path).touch()


def write_garbage():
    for path in Path("/proc/self/fd").iterdir():
        try:
            if int(path.name) > 2:
                os.write(int(path.name), b"x" * 64)
        except OSError:
            pass


def has_open(inode):
    """Whether a descriptor of ours leads to that pipe."""
    for path in Path("/proc/self/fd").iterdir():
        try:
            if os.fstat(int(path.name)).st_ino == inode:
                return True
        except OSError:
            pass
    return False


def frameworks():
    return sorted({"asyncio", "anyio", "trio", "uvloop"} & set(sys.modules))


def echo(value):
    return value


def many_arrays(count):
    import numpy as np  # not in every worker

    return [np.full(8_192, n) for n in range(count)]


def kill_self(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def read_null():
    ctypes.string_at(0)


def exhaust_memory():
    """Ask for more than there may be; under a limit of our own."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
    try:
        return len(bytearray(1 << 34))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)


def fail_with_type(kind):
    raise kind("said so")


def close_stdio():
    for fd in range(3):
        os.close(fd)
    return "closed"


def print_to(name, text):
    print(text, file=getattr(sys, name))


kept = []


def keep_each(value):
    """Keep a value for ever; return the first item of all that are kept."""
    kept.append(value)
    return [each[0] for each in kept]


def keep_and_sum(values):
    kept.append(values)
    return os.getpid(), float(values.sum())


def add_in_place(values, mark=None):
    """Change an argument, and die the first time if there is a mark to be made."""
    values += 1
    if mark is not None and not Path(mark).exists():
        Path(mark).touch()
        os._exit(3)
    return values


def describe_array(values):
    return type(values).__name__, bool(values.flags.writeable), float(values.sum())


def kill_with(_, number):
    os.kill(os.getpid(), number)


def tell_then_return(path, value):
    tell(path)
    return value


def child_looks_again(values, told, seen):
    """Let a forked child look at an argument when we have finished with it."""
    if not os.fork():
        Path(told).read_bytes()
        Path(seen).write_bytes(bytes(values[:1]) + bytes(values[-1:]))
        os._exit(0)


def are_one(first, second):
    return first is second


def is_in(first, others):
    return any(first is other for other in others)


def drop_when_told(values, told):
    """Keep an argument until somebody says so, after the task."""

    def wait(values):
        Path(told).read_bytes()

    threading.Thread(target=wait, args=(values,)).start()


def fork_again_and_again(values, begun):
    for _ in range(10_000):
        view = values[1:]
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        if begun:
            tell(begun)
            begun = None
        del view


def leave_child(values, told):
    """Return a forked child that lives until this process ends."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        Path(told).write_bytes(b"!")
        os.read(reader, 1)
        os._exit(int(values.sum()) == len(values))
    os.close(reader)
    Path(told).read_bytes()
    return child


def keep_the_interrupt(begun):
    try:
        loop_forever(begun)
    except BaseException as error:
        kept.append(error)
        raise


class RaisesAgain:
    """Raises what is kept where Python can only print it."""

    def __del__(self):
        raise kept[-1]


def raise_again_and_go_on(seconds):
    RaisesAgain()
    spin(seconds)
    return os.getpid()


def descriptors_and_maps(pid):
    """Return where the descriptors of a process lead, and its mappings."""
    process = Path(f"/proc/{pid}")
    links = " ".join(str(fd.readlink()) for fd in (process / "fd").iterdir())
    return links, (process / "maps").read_text().splitlines()


CONSTANT = b"x" * 1_000_000


def constant(_):
    return CONSTANT


def pid_and(value):
    return os.getpid(), value


def flood_stderr():
    os.write(2, b"x" * 1_000_000)
    return "flooded"


def close_everything():
    os.closerange(3, 1000)


def return_unloadable():
    return LoadsNot()


class LoadsNot:
    """Pickles, and raises in a process that is not the one which pickled it."""

    def __reduce__(self):
        return load_only_in, (os.getpid(),)


def load_only_in(pid):
    if os.getpid() != pid:
        raise RuntimeError("not here")
    return LoadsNot()


def run_in_child(value):
    """Return what a process of the worker's own says."""
    queue = multiprocessing.SimpleQueue()
    child = multiprocessing.get_context("fork").Process(target=queue.put, args=(value,))
    child.start()
    child.join()
    return queue.get()


def pid():
    return os.getpid()


def hang():
    time.sleep(1000)


def fork_and_return():
    """Come back twice, once in a process that is no worker."""
    os.fork()
    return "once"


def die_once(mark):
    """End the worker, unless that has been done before."""
    if not mark.exists():
        mark.touch()
        os._exit(1)
    return "alive"


class Touch:
    def __init__(self, path) -> None:
        self.path = path

    def __call__(self) -> None:
        self.path.touch()


def echo_or_hang(value):
    if isinstance(value, Path):
        sleep_forever(value)
    return value


def spin_for(seconds, value):
    spin(seconds)
    return value


def echo_when_told(value, path):
    if path is not None:
        with Path(path).open("rb", buffering=0) as pipe:
            pipe.read(1)
    return value


def tell_if(path):
    """Tell, and stay a while; or return at once."""
    if path is None:
        return None
    tell(path)
    sum(range(3_000_000))  # deaf to interrupts
    return "told"


def tell_then_touch(begun, mark):
    tell(begun)
    time.sleep(0.05)
    Path(mark).touch()


_kept = []


def keep(size):
    _kept.append(b"x" * size)


def fail_at(place, n):
    if n == place:
        raise ValueError(f"item {n}")
    return n


class Unhashable:
    __hash__ = None

    def __call__(self, n):
        return n


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen(Exception):
    """Refuses to have its cause set."""

    reason: str


class Untold(Exception):
    def __str__(self):
        raise RuntimeError("not to be told")


class RaisesWhenPickled:
    def __reduce__(self):
        raise Untold


class LoadsUntold(LoadsNot):
    def __reduce__(self):
        return load_untold, (os.getpid(),)


def load_untold(pid):
    if os.getpid() != pid:
        raise Untold
    return LoadsUntold()


def return_what_is_not_told():
    return LoadsUntold()


def fail_frozen():
    raise Frozen("reason")


def fail_untold():
    raise Untold


def return_lambda_at(n):
    return (lambda: None) if n == 50 else n


def exit_at(n):
    if n == 5:
        os._exit(1)
    return n


def have_tracebacks_pickled():
    """Do as Dask does when it is imported; and collect nothing."""
    import tblib.pickling_support

    tblib.pickling_support.install()
    gc.disable()


def refuse(_values):
    raise LookupError("none of these")
