"""Figures of hosts, attempts, the controller and processes, and how Prometheus reads them.

::

    table        every metric: its name, kind, help and labels
    histogram    how long something took, counted
    process      figures of any fray process: links, calls, memory
    exposition   readings -> Prometheus's text format, behind ``GET /metrics``

What a host reads of itself is in `fray.cluster.worker.usage`, what the controller counts in
`fray.cluster.controller.figures`. Nothing here is global: each process has readings of its own.
"""
