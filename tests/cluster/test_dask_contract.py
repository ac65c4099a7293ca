"""`DaskPool` keeps the contract of pools."""

import pytest

from aioipc.testing import PoolContract


class TestDaskPool(PoolContract):
    pass


@pytest.mark.slow
class TestDaskPoolWithoutLimit(PoolContract):
    @pytest.fixture
    async def pool(self, small):
        return small

    async def test_a_resized_pool_has_so_many_workers(self, whole):
        await super().test_a_resized_pool_has_so_many_workers(whole)
