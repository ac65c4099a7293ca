"""Which cases and contestants the documents and plots show, and by which words."""

from __future__ import annotations

LOOPS = ("asyncio", "uvloop", "trio")
OURS = "aioipc on asyncio"

BESIDE_BLOCKING = {
    "pipe, round trip, small object, one CPU": "round trip, small object, one CPU",
    "pipe, round trip, small object": "round trip, small object",
    "pipe, round trip, 1 MB": "round trip, 1 MB",
    "pipe, round trip, 64 MB": "round trip, 64 MB",
    "one-way pipe, stream of records, receiving": "receiving 100-byte records",
    "one-way pipe, stream of records, sending": "sending 100-byte records",
    "pipe, stream of records, sending": "sending them over a duplex pipe",
    "Queue, get from one producer": "`Queue.get`",
    "Queue, put towards one consumer": "`Queue.put`",
}
BESIDE_OTHERS = {
    "asyncio.to_thread": "pipe, round trip, small object, one CPU",
    "aioprocessing": "Queue, get from one producer",
}
MESSAGES = {
    "pipe, round trip, 1 int, one CPU": "round trip, 1 int, one CPU",
    "pipe, round trip, 1 KB, one CPU": "round trip, 1 KB, one CPU",
    "pipe, round trip, 64 KB, one CPU": "round trip, 64 KB, one CPU",
    "pipe, round trip, 1 MB": "round trip, 1 MB",
    "pipe, round trip, 64 MB": "round trip, 64 MB",
    "pipe, stream of records, receiving": "pipe, receiving records",
    "pipe, stream of records, sending": "pipe, sending records",
    "Queue, get from one producer": "`Queue.get`",
    "Queue, put towards one consumer": "`Queue.put`",
    "Queue, get from two producers": "`Queue.get`, two producers",
    "Queue, put towards two consumers": "`Queue.put`, two consumers",
}
CARRIERS = (
    OURS,
    "blocking",
    "asyncio.to_thread on asyncio",
    "aioprocessing on asyncio",
    "faster-fifo",
    "faster-fifo on asyncio",
    "pyzmq on asyncio",
    "socketpair, no pickling",
)
BROKER = {
    "broker, worker to coordinator": "worker to coordinator",
    "broker, coordinator to worker": "coordinator to worker",
    "broker, round trip, 100 bytes": "round trip",
    "broker, 4 workers to coordinator": "four workers to coordinator",
    "broker, coordinator to 4 workers": "coordinator to four workers",
}
QUEUE = "multiprocessing.Queue"
QUEUES = {
    QUEUE: "`multiprocessing.Queue`",
    f"{QUEUE}, room for 100": "the same with room for 100",
    "Manager().Queue()": "`Manager().Queue()`",
    "aioipc.Queue on asyncio": "`aioipc.Queue`",
    "aioipc.Broker on asyncio": "`Broker().Queue()`",
    "aioipc.Broker on uvloop": "the same on uvloop",
    "aioipc.Broker on trio": "the same on trio",
    "aioipc.Broker, many on asyncio": "`get_many`, `put_many`",
    "aioipc.Broker, many on uvloop": "the same on uvloop",
    "aioipc.Broker, many on trio": "the same on trio",
    "aioipc.Broker, room for 100 on asyncio": "`Broker().Queue(100)`",
    "aioipc.Broker, by priority on asyncio": "`Broker().PriorityQueue()`",
}
ARRAYS = {
    "array, 100 MB in": ("100 MB in", "memcpy"),
    "array, 100 MB out": ("100 MB out", "bare shared memory"),
    "array, 100 MB in and 100 MB out": ("100 MB in and out", "bare shared memory"),
    "arrays, 1,000 of 1 MB in": ("1,000 times 1 MB in", "1,000 copies"),
}
LAGS = {
    "loop lag, 10,000 calls at once": "10,000 calls gathered",
    "loop lag, 10,000 calls at once, a task for each": "the same, a task for each",
    "loop lag, starting 8 workers": "starting 8 workers",
    "loop lag, 200 MB array there and back": "200 MB array to a worker and back",
    "loop lag, 200 MB list of dicts there and back": "200 MB of dicts, the same",
    "loop lag, receiving 200 MB": "pipe, receiving 200 MB",
    "loop lag, sending 200 MB": "pipe, sending 200 MB",
    "loop lag, receiving 1 MB that takes 1 s": "pipe, 1 MB that takes 1 s",
    "loop lag, pipe, stream of records, receiving": "pipe, receiving records",
    "loop lag, pipe, stream of records, sending": "pipe, sending records",
    "loop lag, Queue, stream of records, receiving": "`Queue.get`",
    "loop lag, Queue, stream of records, sending": "`Queue.put`",
}
COUNTS = ("1,000", "10,000", "100,000", "1,000,000")
STREAMS = {
    "aioipc": "aioipc's `map`",
    "multiprocessing.Pool.imap": "`multiprocessing.Pool.imap`",
    "ProcessPoolExecutor.map": "`ProcessPoolExecutor.map`",
    "mpire's imap": "mpire's `imap`",
}

CLUSTER = {
    "cluster, one call at a time": "one call at a time",
    "cluster, 2,000 calls at once": "many calls at once, each",
    "cluster, map of 2,000 cheap items": "a map of cheap items, each",
    "cluster, 100 MB array in": "an array of 100 MB, summed up there",
}
CAPACITY = {
    "scheduler": "cluster, a call, CPU of the scheduler",
    "coordinator": "cluster, a call, CPU of the coordinator",
}
