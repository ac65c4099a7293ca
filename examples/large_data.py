"""Send large data to workers and back: it is shared, not copied through a pipe.

Here it is bytes, to need nothing else. Arrays of numpy, tables of Arrow and
whatever else has a buffer go the same way, wherever in an argument they are.
"""

import zlib
from array import array

import anyio

import aioipc

MB = 1 << 20


def checksum(data: bytes) -> int:
    """Look at data where it lies."""
    return zlib.crc32(data)


def brighter(image: "array[int]") -> "array[int]":
    """Change an argument: that is seen here only."""
    image[0] += 1
    return image


async def main() -> None:
    """Send 32 MB there, and 32 MB there and back."""
    data, image = bytes(32 * MB), array("B", bytes(32 * MB))
    async with aioipc.WorkerPool(2, max_shared_memory=256 * MB) as pool:
        print("there:", await pool.run(checksum, data) == zlib.crc32(data))

        result = await pool.run(brighter, image)
        print("and back:", result[0], "from", image[0])

        held = pool.statistics().shared_memory
        print("in shared memory:", 0 < held <= 256 * MB)
    print("kept:", len(result) == len(image))


if __name__ == "__main__":
    anyio.run(main)
