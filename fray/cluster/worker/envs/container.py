"""Tasks in Docker containers: the command lines, and the images of a host.

The program of such an attempt is ``docker run`` in the foreground: it hands on the output, the
signals and the exit code. The container itself is the daemon's child and not ours; so whoever sees
the attempt end, its supervisor above all, also removes the container (`cleanup`), and nothing of a
killed attempt goes on in it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.worker.envs.build import BuildFailed, Commands, Say
from fray.cluster.worker.envs.steps import Step

if TYPE_CHECKING:
    from fray.runtime.clock import Clock

ENV_FILE = "container.env"
STATE_FILE = "container.state"

PYTHON = "python"
"""The interpreter of an image, which has fray in it where a job is a function or an actor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container for one attempt.

    Attributes:
        name: By which it is stopped.
        image: What it is made of.
        command: What runs in it.
        run_dir: The attempt's, where it is on the host, and in the container too.
        readable: Further files that it may read, at the same place.
        devices: Words for ``docker run`` about accelerators.
        owner: Under which user and group it runs, which it does not get beyond; None for ours.
    """

    name: str
    image: str
    command: Sequence[str]
    run_dir: Path
    readable: Sequence[str] = ()
    devices: Sequence[str] = ()
    owner: tuple[int, int] | None = None


def container_name(attempt_id: str) -> str:
    """The name of an attempt's container.

    Args:
        attempt_id: The attempt.
    """
    return "fray-" + re.sub(r"[^A-Za-z0-9_.-]", "-", attempt_id)


def run_command(
    container: Container, variables: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """How a container is run.

    The values of variables are secrets: they are in a file of the agent's account, and, where a
    file cannot say them, in the environment of the command; never on its command line.

    Args:
        container: The container.
        variables: Those of the attempt.

    Returns:
        The command line, and the variables of the command itself.

    Raises:
        OSError: The file cannot be written.
    """
    plain = {name: value for name, value in variables.items() if "\n" not in value}
    path = container.run_dir / ENV_FILE
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in plain.items()))
    rest = {name: value for name, value in variables.items() if name not in plain}
    uid, gid = container.owner or (os.geteuid(), os.getegid())
    confined = ("--security-opt", "no-new-privileges") if container.owner else ()
    handed_on = [*rest, "FRAY_ATTEMPT_ID", "FRAY_RUN_DIR"]
    argv = [
        *("docker", "run", "--name", container.name, "--init", "--log-driver", "none"),
        *("--network", "host", "--ipc", "host", "--user", f"{uid}:{gid}"),
        *confined,
        *("--env-file", str(path)),
        *(word for name in handed_on for word in ("--env", name)),
        *("--volume", f"{container.run_dir}:{container.run_dir}"),
        *(word for file in container.readable for word in ("--volume", f"{file}:{file}:ro")),
        *container.devices,
        container.image,
        *container.command,
    ]
    return argv, rest


def cleanup(container: Container) -> tuple[str, ...]:
    """What is run once an attempt has ended: notes how its container was, and removes it.

    Args:
        container: The container.
    """
    name, state = shlex.quote(container.name), shlex.quote(str(container.run_dir / STATE_FILE))
    script = (
        f"docker inspect --format '{{{{.State.OOMKilled}}}}' {name} > {state} 2>/dev/null; "
        f"docker rm --force {name} > /dev/null"
    )
    return "/bin/sh", "-c", script


def ran_out_of_memory(run_dir: Path) -> bool:
    """Whether an attempt's container was ended for want of memory.

    Args:
        run_dir: The attempt's.
    """
    try:
        return (run_dir / STATE_FILE).read_bytes().strip() == b"true"
    except OSError:  # there was none
        return False


class Images:
    """The images of a host: each is pulled once.

    Args:
        clock: The host's.
        environ: The agent's environment variables.
    """

    def __init__(self, clock: Clock, environ: Mapping[str, str]) -> None:
        self._clock = clock
        self._environ = environ
        self._here: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}

    async def obtain(self, image: str, say: Say) -> None:
        """Makes sure that an image is here.

        Args:
            image: Its name.
            say: Takes the lines of the log.

        Raises:
            BuildFailed: It cannot be had.
        """
        async with self._locks.setdefault(image, asyncio.Lock()):
            if image in self._here:
                return
            commands = Commands(
                None, Path("/"), environ=self._environ, variables={}, clock=self._clock, say=say
            )
            look = Step(("docker", "image", "inspect", "--format", "{{.Id}}", image))
            pull = Step(("docker", "pull", image), why=f"the image {image} could not be pulled")
            try:
                try:
                    await commands.run([look])
                except BuildFailed:
                    await commands.run([pull])
            except FileNotFoundError as exc:
                raise BuildFailed("docker is not installed on this host", of_moment=True) from exc
            self._here.add(image)


__all__ = [
    "ENV_FILE",
    "PYTHON",
    "STATE_FILE",
    "Container",
    "Images",
    "cleanup",
    "container_name",
    "ran_out_of_memory",
    "run_command",
]
