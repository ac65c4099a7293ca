import aioipc


def square(connection) -> None:
    while (n := connection.recv()) is not None:
        connection.send(n * n)


async def test_roundtrip(context, transport) -> None:
    parent, child = aioipc.Pipe(context=context, transport=transport)
    async with parent, aioipc.Process(target=square, args=(child,), context=context):
        child.close()
        await parent.send(4)
        assert await parent.recv() == 16
        await parent.send(None)
