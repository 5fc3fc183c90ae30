"""The process of a task on Ray: calls the function whose pickle a file holds, or becomes a program.

``python -m fray.cluster.raytask PARENT FILE [PROGRAM [ARGUMENT…]]``; why it failed is written to
``FILE.error``. It ends with the process that has started it, whatever ends that: Ray kills its
processes without a word to theirs, and a second attempt must not meet the first.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from fray.cluster.worker.shim.system import die_with_parent


def main(parent: int, path: Path, program: list[str]) -> int:
    """Calls the function, or becomes the program.

    Args:
        parent: Who has started this process.
        path: Of the function's pickle.
        program: The program and its arguments; empty for the function.

    Returns:
        The exit code.
    """
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        return 1  # it has ended already
    return _become(program, path) if program else _call(path)


def _become(program: list[str], path: Path) -> int:
    try:
        os.execvp(program[0], program)
    except OSError as exc:
        Path(f"{path}.error").write_text(f"{program[0]} could not be started: {exc}")
        return 127


def _call(path: Path) -> int:
    import asyncio

    from fray.cluster.blobs import unpack
    from fray.cluster.current import close_connections
    from fray.cluster.entrypoint import rest_of
    from fray.cluster.worker import exits
    from fray.cluster.worker.task import print_failure
    from fray.errors import DeathKind
    from fray.runtime.serialization import loads

    try:
        fn, args, kwargs = loads(unpack(path.read_bytes()), what="the entrypoint")
        rest = rest_of(fn(*args, **kwargs))
        if rest is not None:
            asyncio.run(rest)
    except BaseException as exc:
        cause = exits.raised(exc)
        if cause is None:
            return 0
        Path(f"{path}.error").write_text(str(cause))
        if cause.kind is not DeathKind.STOPPED:
            print_failure(exc)
        return cause.exit_code or 1
    finally:
        close_connections()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
