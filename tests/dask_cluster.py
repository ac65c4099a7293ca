"""A Dask cluster as a program of its own: ends with its standard input."""

import sys

import dask
from distributed import LocalCluster

# Or a worker is given up that is not there when it is looked for, so long after its
# death: it may just have been killed again.
dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})


def main() -> None:
    with LocalCluster(
        n_workers=int(sys.argv[1]),
        threads_per_worker=1,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        sys.stdout.write(f"{cluster.scheduler_address}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
