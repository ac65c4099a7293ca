"""Queues and locks that live in the coordinator and survive the death of any worker.

`Broker` and its awaitables are the coordinator's. What a worker has of them is called
`remote`, blocks, and imports neither anyio nor asyncio.
"""
