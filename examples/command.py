"""What the commands of all examples share: what they need, where they write, exit codes."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

ONE_THREAD = {
    "JAX_PLATFORMS": "cpu",
    "NPROC": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
"""Variables for processes that share a machine: a thread pool in each would only be in the way."""


def complaint(module: str, needed: Sequence[str], output: str) -> str:
    """Why an example cannot run, told before it begins; empty if it can.

    Args:
        module: The example, as in ``examples.rl``.
        needed: The modules that it imports.
        output: Where it is to write; a folder of this machine is made.
    """
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        return f"{module} needs {', '.join(missing)}: install fray-actors[examples]"
    if "://" not in output:
        try:
            os.makedirs(output, exist_ok=True)
            with tempfile.TemporaryFile(dir=output):
                pass
        except OSError as exc:
            return f"cannot write into {output}: {exc.strerror}"
    return ""


def at_least(least: float, kind: Callable[[str], float] = int) -> Callable[[str], float]:
    """A type for `argparse`: a finite number that is not too small.

    Args:
        least: The smallest that makes sense.
        kind: ``int`` or ``float``.
    """

    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= least):
            raise argparse.ArgumentTypeError(f"{text!r} is no number that is at least {least:g}")
        return number

    return read


def output_of(given: str | None, module: str) -> str:
    """Where an example writes: an absolute path, or a URL of fsspec as it is.

    Args:
        given: What its user asked for; None for ``results/<name>/<time>``.
        module: The example, as in ``examples.rl``.
    """
    name = module.rpartition(".")[2]
    output = given or f"results/{name}/{time.strftime('%Y%m%d-%H%M%S')}"
    return output.rstrip("/") if "://" in output else os.path.abspath(output)


def set_defaults(variables: dict[str, str]) -> None:
    """Sets environment variables that nobody has set.

    Args:
        variables: By name. A local cluster whose actors have processes of their own is one of the
            defaults.
    """
    for name, value in {"FRAY_CLUSTER_SPEC": "local?use_processes=1", **variables}.items():
        os.environ.setdefault(name, value)


__all__ = [
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "ONE_THREAD",
    "at_least",
    "complaint",
    "output_of",
    "set_defaults",
]
