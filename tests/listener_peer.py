"""The other end, in plain multiprocessing, under any Python: `python listener_peer.py`.

    connect ADDRESS KEY     connect, send a word, print the answer
    listen FAMILY KEY       listen, print the address, answer one client

An address is a path, or host:port. A wrong key is printed as AuthenticationError.
"""

# ruff: noqa: T201 - that is how it tells

import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener


def address_of(text: str):
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon else text


def connect(address: str, key: str) -> None:
    with Client(address_of(address), authkey=key.encode() or None) as connection:
        connection.send(("hello", sys.version_info[:2]))
        print(connection.recv())


def listen(family: str, key: str) -> None:
    with Listener(family=family, authkey=key.encode() or None) as listener:
        address = listener.address
        text = address if isinstance(address, str) else "{}:{}".format(*address)
        print(text, flush=True)
        with listener.accept() as connection:
            word, _ = connection.recv()
            connection.send(("you said", word))
            print("answered")


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](*sys.argv[2:])
    except AuthenticationError:
        print("AuthenticationError")
