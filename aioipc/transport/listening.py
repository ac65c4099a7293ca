"""How a listening socket is made: private, and never open to all without a key."""

import contextlib
import os
import secrets
import socket
from multiprocessing import util
from pathlib import Path

__all__ = [
    "Address",
    "check_authkey",
    "family_of",
    "is_abstract",
    "listen",
    "remove_file",
]

Address = str | bytes | tuple[str, int] | tuple[str, int, int, int]
"""A path, or a name in Linux' abstract namespace (`AF_UNIX`); a host and a port."""

MIN_BACKLOG = 1024
"""Clients that the kernel keeps waiting, at least.

multiprocessing asks for one. Those beyond it wait in `connect`, if they can, or try
again after a second (TCP), or fail.
"""

_FAMILIES = ("AF_UNIX", "AF_INET", "AF_INET6")


def family_of(address: Address | None, family: str | None = None) -> str:
    """Return the name of the family of an address, as `multiprocessing` does.

    :raises ValueError: if there is no such family
    """
    if family is None:
        if not isinstance(address, tuple):
            return "AF_UNIX"
        return "AF_INET" if len(address) == 2 else "AF_INET6"
    if family not in _FAMILIES:
        raise ValueError(f"family must be one of {_FAMILIES}, not {family!r}")
    return family


def check_authkey(authkey: bytes | None, family: str, address: object) -> None:
    """Refuse what would let anyone in.

    :raises TypeError: if the key is not bytes
    :raises ValueError: if it is empty, or None where others than this user can connect
    """
    if authkey is not None:
        if not isinstance(authkey, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("authkey should be a byte string")
        if not authkey:
            raise ValueError("the authkey is empty")
    elif family != "AF_UNIX":
        raise ValueError(f"{family} demands an authkey: anyone can connect to it")
    elif is_abstract(address):
        raise ValueError("an abstract address demands an authkey: anyone can connect")


def is_abstract(address: object) -> bool:
    """Whether an address of AF_UNIX is no file."""
    return isinstance(address, str | bytes) and address[:1] in ("\0", b"\0")


def listen(
    address: Address | None = None, family: str | None = None, backlog: int = 1
) -> socket.socket:
    """Return a listening socket.

    The file of an AF_UNIX socket is for this user only; `remove_file` removes it.

    :param address: a file in a private directory, or a free port of loopback, if None
    :param backlog: how many clients may wait to be accepted; more may anyway
    """
    family = family_of(address, family)
    if address is None:
        address = _free_address(family)
    sock = socket.socket(getattr(socket, family))
    try:
        if family == "AF_UNIX":
            # What it is before it is bound, its file will be: no moment without.
            os.fchmod(sock.fileno(), 0o600)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(max(backlog, MIN_BACKLOG))
    except BaseException:
        sock.close()
        raise
    return sock


def remove_file(address: str) -> None:
    """Remove the file of a listening socket, if it is still there."""
    with contextlib.suppress(FileNotFoundError):
        Path(address).unlink()


def _free_address(family: str) -> Address:
    if family == "AF_UNIX":
        return f"{util.get_temp_dir()}/listener-{secrets.token_hex(8)}"
    return ("localhost" if family == "AF_INET" else "::1", 0)
