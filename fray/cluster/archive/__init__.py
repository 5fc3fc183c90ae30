"""The log archive: what attempts printed, kept after their hosts and the controller are gone.

::

    layout      which file holds which bytes of which attempt; what goes of too much. Pure
    store       where files are kept: a directory, or any location of fsspec
    reader      reading an attempt's output back, from any offset
    offline     reading a job without any controller
    marks       when which byte was printed

Agents write it (`fray.cluster.worker.shipping`), clients read it. Where no location is given the
controller keeps the files (`fray.cluster.controller.logs`), and passes them on unread. Every file
is whole and never appended to, so an object store will do.
"""
