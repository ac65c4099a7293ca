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
