"""Dask: `client.map` on a cluster of this machine, one process per worker."""

from __future__ import annotations

import os

from benchmarks import cases
from benchmarks.peers import measure, tasks


def main() -> None:
    options = measure.options()
    os.environ.setdefault("DASK_DISTRIBUTED__LOGGING__DISTRIBUTED", "error")
    from distributed import Client, LocalCluster

    measure.report_version("distributed")
    cluster = LocalCluster(
        n_workers=cases.TASK_WORKERS, threads_per_worker=1, dashboard_address=None, processes=True
    )
    with cluster, Client(cluster) as client:
        tasks.run(
            lambda fn, values: client.map(fn, list(values), pure=False),
            client.gather,
            options.measure_s,
        )


if __name__ == "__main__":
    main()
