"""What the workers of the tests of locks run: plain multiprocessing, no aioipc."""

import random
import threading
import time


def name_of(obj) -> str:
    return f"{type(obj).__module__}.{type(obj).__name__}"


def tell_kinds(connection, *objects) -> None:
    connection.send([name_of(obj) for obj in objects])


def count_up(lock, counter, times: int) -> None:
    """Add to a counter, in a way that loses some if others do the same meanwhile."""
    for _ in range(times):
        with lock:
            count = counter.value
            time.sleep(0)
            counter.value = count + 1


def obey(lock, connection) -> None:
    """Call the lock's methods as told, and send what they return or raise."""
    while (order := connection.recv()) is not None:
        method, *args = order
        try:
            connection.send(getattr(lock, method)(*args))
        except Exception as error:
            connection.send(type(error).__name__)


def hold(lock, connection) -> None:
    """Acquire the lock, tell, and end only by a kill or a message."""
    with lock:
        connection.send("held")
        connection.recv()
    connection.send("released")


def contend(lock, stop) -> None:
    """Take and leave the lock at random moments."""
    rng = random.Random(1)
    while not stop.value:
        if lock.acquire(True, 0.01):
            time.sleep(rng.random() * 0.002)
            lock.release()
        time.sleep(rng.random() * 0.002)


def wait_often(waitable, connection, times: int) -> None:
    for _ in range(times):
        connection.send("waiting")
        connection.send(waitable.wait(30))


def set_when_told(event, connection) -> None:
    while connection.recv():
        event.set()
        event.clear()
        connection.send("done")


def wait_in_threads(condition, connection, count: int) -> None:
    """Have threads wait on the condition; tell of each that is awake."""

    def wait() -> None:
        with condition:
            ready.release()
            awake = condition.wait(30)
        with mutex:
            connection.send(awake)

    mutex = threading.Lock()
    ready = threading.Semaphore(0)
    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    for _ in threads:
        ready.acquire()
    with condition:  # so all have released it, and wait
        connection.send("waiting")
    for thread in threads:
        thread.join()


def notify_when_told(condition, connection) -> None:
    while (n := connection.recv()) is not None:
        with condition:
            condition.notify(n)
        connection.send("notified")


def set_state_and_notify(condition, state, last: int) -> None:
    for n in range(1, last + 1):
        with condition:
            state.value = n
            condition.notify_all()


def consume(condition, items, taken, stop) -> None:
    """Take items, one for each notification, as in the classic example."""
    while True:
        with condition:
            while not items.value and not stop.value:
                condition.wait()
            if not items.value:
                return
            items.value -= 1
            taken.value += 1


def pass_barrier(barrier, connection, times: int) -> None:
    for _ in range(times):
        try:
            connection.send(barrier.wait(30))
        except threading.BrokenBarrierError:
            connection.send("broken")


def pass_until_broken(barrier, passed) -> None:
    try:
        while True:
            barrier.wait(30)
            passed.value += 1
    except threading.BrokenBarrierError:
        pass


def add(value, times: int) -> None:
    for _ in range(times):
        with value:
            value.value += 1


def fill(array) -> None:
    with array:
        for n in range(len(array)):
            array[n] = n * n
