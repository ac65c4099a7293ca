"""The battery of `aioipc.testing` over the pool of this package, each way to start."""

import pytest

import aioipc
from aioipc.testing import PoolContract


class TestWorkerPool(PoolContract):
    @pytest.fixture
    async def pool(self, context):
        async with aioipc.WorkerPool(2, mp_context=context, grace=0.2) as pool:
            yield pool


class TestItsOptions(PoolContract):
    @pytest.fixture
    async def pool(self, fork):
        async with aioipc.WorkerPool(2, mp_context=fork) as pool:
            yield pool.options(priority=1, retries=1, on_cancel="kill")
