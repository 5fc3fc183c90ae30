"""The program of a worker process of this machine: ``python -m zephyr.worker FD``."""

from __future__ import annotations

import gc
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection

from zephyr.spill import packer
from zephyr.task import Task, TaskResult, run_stored

GC_THRESHOLD = 50_000
"""Records come and go by the thousand and know no cycles: the default of 700 looks at them all."""

Answer = tuple[TaskResult | None, BaseException | None, str]
"""Of a task: what it made, or what it raised and the traceback of that."""


def work(stage_path: str, task: Task) -> bytes:
    """Does a task.

    Args:
        stage_path: Where the stage is stored.
        task: The attempt.

    Returns:
        An `Answer`, pickled.
    """
    pack = packer()
    try:
        return pack((run_stored(stage_path, task), None, ""))
    except Exception as exc:
        told = "".join(traceback.format_exception(exc))
        try:
            packed = pack((None, exc, told))
            pickle.loads(packed)  # some can only be pickled
        except Exception:
            plain = RuntimeError(f"{type(exc).__qualname__}: {exc}")
            for note in getattr(exc, "__notes__", ()):
                plain.add_note(note)
            packed = pack((None, plain, told))
        return packed


def main() -> None:
    """Serves one task after the other until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, which ends this
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    connection: Connection = Connection(int(sys.argv[1]))
    connection.send_bytes(b"")
    while True:
        try:
            request = connection.recv_bytes()
        except EOFError:
            return
        answer = work(*pickle.loads(request))
        try:
            connection.send_bytes(answer)
        except BrokenPipeError:  # whoever asked was killed
            return


if __name__ == "__main__":
    main()
