"""A pre-started interpreter: ``python -m fray.cluster.worker.warm FD``.

It has imported what tasks need, down to a connection to their cluster, and run nothing of any
user's. It is a fork server as
`fray.cluster.worker.shim.zygote` is, with one difference: where a supervisor's child would replace
itself by a new interpreter, it goes on as the task. What a new interpreter would have read from its
variables when it started is set here; for what can only be given to a new process the launcher
starts one (`fray.cluster.worker.zygotes`).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fray.cluster.control import ClusterFacts
from fray.cluster.worker import task
from fray.cluster.worker.shim import records, zygote
from fray.cluster.worker.shim.system import set_process_name
from fray.cluster.worker.taskfile import TaskFile
from fray.runtime.jsonreading import reader_of

_FAILED = 70
"""The exit code where fray itself fails: ``EX_SOFTWARE``."""

_AHEAD = (
    *("aiohttp.web", "uvloop"),
    *("fray.cluster.current", "fray.cluster.remote", "fray.cluster.worker.hosting"),
)
"""What a task imports only once it needs it: here it is to be there for all of them."""

_READ = (TaskFile, ClusterFacts)
"""What a task reads first. A type's reader is made when it is first asked for, which takes longer
than all else of a task's start."""

_MARKERS = (records.MARKER_ATTEMPT, records.MARKER_RUN_DIR)


class Interpreter:
    """What a fork has to change of what its parent has read when it started."""

    def __init__(self) -> None:
        self._paths = sys.path[1:]  # without the folder in which it was started
        for path in os.environ.get("PYTHONPATH", "").split(os.pathsep):
            if path and path in self._paths:
                self._paths.remove(path)
        # Where the kernel shows them, and where an agent looks for what a killed supervisor has
        # left; what is set later lies elsewhere.
        libc = ctypes.CDLL(None)
        libc.getenv.restype = ctypes.c_void_p
        self._markers: dict[str, tuple[int, int]] = {}
        for name in _MARKERS:
            room = len(os.environ.get(name, ""))
            if room:
                self._markers[name] = libc.getenv(name.encode()), room

    def become_task(self, argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
        """Runs a task in this process, which is a fork made for it, and ends it.

        Args:
            argv: Its command line; the last of it is the run directory.
            environment: All its variables.
        """
        code = _FAILED
        try:
            self._set(argv, environment)
            code = task.main()
        except BaseException:
            traceback.print_exc()
        finally:
            _leave(code)

    def _set(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        set_process_name("fray-task")
        for name, (address, room) in self._markers.items():
            value = os.fsencode(environment[name])
            if len(value) < room:
                ctypes.memmove(address, value.ljust(room, b"\0"), room)
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        here = os.getcwd()
        given = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p]
        sys.path[:] = [here, *(os.path.join(here, p) for p in given), *self._paths]
        sys.path_importer_cache.clear()
        sys.argv[:] = [task.__file__ or "", argv[-1]]
        sys.orig_argv[:] = argv
        # As an interpreter does that starts; its supervisor has undone all.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN)


def _leave(code: int) -> NoReturn:
    """Ends this process as an interpreter does: threads, exit handlers, what is unsaid."""
    try:
        threading._shutdown()  # pyright: ignore
        atexit._run_exitfuncs()  # pyright: ignore
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # never back into the fork server, of which this is a copy


def main() -> None:
    """Entry point."""
    interpreter = Interpreter()
    for name in _AHEAD:
        with contextlib.suppress(ImportError):  # uvloop may be missing; the rest fails in the task
            importlib.import_module(name)
    for kind in _READ:
        reader_of(kind)
    if threading.active_count() > 1:  # some package starts threads; a fork would lack them
        sys.exit("this interpreter has threads: it cannot be forked")
    zygote.main(int(sys.argv[1]), interpreter.become_task)


if __name__ == "__main__":
    main()
