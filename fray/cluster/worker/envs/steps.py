"""The commands that build an environment with ``uv``. Pure: needs in, command lines out."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fray.cluster.worker.envs.base import DISTRIBUTION, LAYER_FILE
from fray.cluster.worker.envs.needs import Needs, Source

CHECK = "import fray.cluster.worker.task, fray.cluster.current"
"""What every task begins with; it also leaves fray's compiled files where the first task looks."""

_WRITE_LAYER = (
    "import pathlib, sys, sysconfig; "
    "pathlib.Path(sysconfig.get_path('purelib'), sys.argv[1]).write_text(sys.argv[2])"
)
"""By the environment's own interpreter, so that it can write nowhere that its builder cannot."""

OURS = frozenset(
    {
        "UV_CACHE_DIR",
        "UV_CONSTRAINT",
        "UV_FROZEN",
        "UV_LOCKED",
        "UV_NO_SYNC",
        "UV_OVERRIDE",
        "UV_PROJECT",
        "UV_PROJECT_ENVIRONMENT",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_TARGET",
        "UV_WORKING_DIR",
        "UV_WORKING_DIRECTORY",
    }
)
"""Variables of uv over which a job has no say: they are the host's, or would lead elsewhere."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a build.

    Attributes:
        argv: Its command line: visible to every user of the host, so no secrets.
        env: Variables beside the agent's.
        output: A file of the build for its output, in place of the log; empty for none.
        why: What it says about a failure, before the command's own words.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    output: str = ""
    why: str = "uv could not install what it asks for"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a build works.

    Attributes:
        venv: The environment.
        notes: A folder for files that uv reads: `OVERRIDES`, `CONSTRAINTS`, `PACKAGES`, `LOCKED`.
        code: The project; uv runs there. Where there is none, any folder.
    """

    venv: Path
    notes: Path
    code: Path

    @property
    def python(self) -> str:
        """The environment's interpreter."""
        return str(self.venv / "bin" / "python")


OVERRIDES = "overrides.txt"
"""Takes fray itself out of what is resolved: it is the agent's."""

CONSTRAINTS = "constraints.txt"
PACKAGES = "packages.txt"
LOCKED = "locked.txt"


def find_uv(environ: Mapping[str, str]) -> tuple[str, ...]:
    """How uv is called: beside the agent's interpreter, on ``PATH``, or as a module; else nothing.

    Args:
        environ: Environment variables.
    """
    beside = os.path.join(os.path.dirname(sys.executable), "uv")
    for found in (
        beside if os.access(beside, os.X_OK) else None,
        shutil.which("uv", path=environ.get("PATH")),
    ):
        if found:
            return (found,)
    import importlib.util

    return (sys.executable, "-m", "uv") if importlib.util.find_spec("uv") else ()


def make_step(uv: Sequence[str], place: Place) -> Step:
    """Makes the environment, empty.

    Args:
        uv: How uv is called.
        place: Where.
    """
    argv = (*uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(place.venv))
    return Step(argv, why="uv could not make an environment")


def install_steps(uv: Sequence[str], needs: Needs, place: Place) -> list[Step]:
    """Installs all that is needed into it.

    Args:
        uv: How uv is called.
        needs: What.
        place: Where; `OVERRIDES`, `CONSTRAINTS` and `PACKAGES` are written.
    """
    pip = (*uv, "pip")
    into = ("--python", place.python)
    rules = (
        *("--override", str(place.notes / OVERRIDES)),
        *("--constraint", str(place.notes / CONSTRAINTS)),
    )
    extras = tuple(word for extra in needs.extras for word in ("--extra", extra))
    packages = ("-r", str(place.notes / PACKAGES)) if needs.pip_packages else ()
    match needs.source:
        case Source.LOCK:
            sync = (*uv, "sync", "--frozen", "--no-dev", "--no-install-project", *extras)
            sync += ("--no-install-package", DISTRIBUTION, "--python", place.python)
            steps = [Step(sync, {"UV_PROJECT_ENVIRONMENT": str(place.venv)})]
        case Source.HASHES:
            listed = ("--require-hashes", "-r", "requirements.txt")
            steps = [Step((*pip, "install", *into, *listed))]
        case Source.PROJECT:
            return [
                Step((*pip, "install", *into, *rules, "-r", "pyproject.toml", *extras, *packages))
            ]
        case Source.REQUIREMENTS:
            return [Step((*pip, "install", *into, *rules, "-r", "requirements.txt", *packages))]
        case Source.NOTHING:
            return [Step((*pip, "install", *into, *rules, *packages))]
    if packages:  # they come on top, and may not change what is locked
        steps.append(Step((*pip, "freeze", *into), output=LOCKED))
        locked = ("--constraint", str(place.notes / LOCKED))
        steps.append(Step((*pip, "install", *into, *rules, *locked, *packages)))
    return steps


def layer_step(place: Place, text: str) -> Step:
    """Puts the agent's packages behind those of an environment.

    Args:
        place: Where.
        text: What `LAYER_FILE` is to say.
    """
    return Step(
        (place.python, "-I", "-c", _WRITE_LAYER, LAYER_FILE, text),
        why="the agent's packages could not be put behind it",
    )


def check_step(place: Place) -> Step:
    """Sees that fray works in it.

    Args:
        place: Where.
    """
    why = "fray cannot be imported in it: one of its packages does not fit the agent's fray"
    return Step((place.python, "-I", "-c", CHECK), why=why)


def uv_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Of a job's variables those that say where packages come from.

    Args:
        variables: All of the job's.
    """
    return {k: v for k, v in variables.items() if k.startswith("UV_") and k not in OURS}


__all__ = [
    "CONSTRAINTS",
    "LOCKED",
    "OVERRIDES",
    "PACKAGES",
    "Place",
    "Step",
    "check_step",
    "find_uv",
    "install_steps",
    "layer_step",
    "make_step",
    "uv_variables",
]
