"""The pool of a Dask cluster: its workers may be on other machines.

`pool` is what a user holds, `engine` carries out its calls. `home` knows where the
cluster is, `connection` how to be connected with it. `sending` sends calls and awaits
what comes of them, `scattering` sends large arguments ahead. `remote` makes a call in a
worker, if `admission` lets it. `shared` has the queues and locks, `remote_queue` what a
worker has of one; `scheduler` ends them. Dask's own names are imported in here only.
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
