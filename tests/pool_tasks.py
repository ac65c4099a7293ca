"""What workers of pools are asked to do in the tests."""

import ctypes
import os
import sys
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


class Unpicklable(Exception):
    """As above, as an exception."""

    def __reduce__(self):
        return int, ("not a number",)


def fail_with(error):
    raise error


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


def loop_forever(path):
    tell(path)
    while True:
        pass


def sleep_forever(path):
    tell(path)
    time.sleep(1e6)


def hold_gil(path):
    """Sleep in C code that does not let go of the GIL."""
    tell(path)
    ctypes.PyDLL(None).sleep(1_000_000)


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
