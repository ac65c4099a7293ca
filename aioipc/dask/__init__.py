"""The pool of a Dask cluster: its workers may be on other machines.

`pool` is what a user holds; `engine` carries out its calls; `home` knows where the
cluster is; `scattering` sends large arguments ahead; `remote` is all that runs in a
worker; `shared` has the queues and locks. Dask's own names are imported in here only.
"""

from importlib.util import find_spec

if find_spec("distributed") is None:
    raise ModuleNotFoundError(
        "aioipc.dask needs Dask's distributed, which the extra 'dask' brings: "
        "pip install 'aioipc[dask]'",
        name="distributed",
    )

from aioipc.dask.pool import DaskPool

__all__ = ["DaskPool"]
