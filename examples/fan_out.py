"""Count primes in worker processes: one call, many, and some that are stopped."""

import math

import anyio

import aioipc


def is_prime(n: int) -> bool:
    """Tell by trial division; slow for large primes."""
    return n > 1 and all(n % k for k in range(2, math.isqrt(n) + 1))


async def main() -> None:
    """Show what a pool does."""
    async with aioipc.WorkerPool() as pool:
        print("one call:", await pool.run(is_prime, 2_147_483_647))

        primes = 0
        async for prime in pool.map(is_prime, range(20_000)):
            primes += prime
        print("a map:", primes, "primes below 20,000")

        # A cancelled await stops the work: here one that would take an hour.
        with anyio.move_on_after(0.1) as scope:
            await pool.run(is_prime, 10**19 + 51)
        print("given up:", scope.cancelled_caught)

        # So does a time limit; and a worker that dies costs the task that it was at.
        try:
            await pool.options(timeout=0.1).run(is_prime, 10**19 + 51)
        except TimeoutError as error:
            print("too late:", error)
        print("and on:", await pool.run(is_prime, 97))


if __name__ == "__main__":
    anyio.run(main)
