"""What `fray run` does with a job: tells of it, submits it, or follows it."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fray.cli.connecting import Place, connection
from fray.cli.errors import Failure
from fray.cluster.types import JobRequest

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster


@dataclass(frozen=True, slots=True)
class Launch:
    """A job that is to be launched.

    Attributes:
        place: Where.
        request: The job.
        namespace: Of its actors' names; None for a fresh one.
        submission_id: Names the launch; None for a new one.
    """

    place: Place
    request: JobRequest
    namespace: str | None
    submission_id: str | None

    def connect(self) -> AbstractAsyncContextManager[AsyncFrayCluster]:
        """A connection to the place, in the namespace."""
        fresh = not self.namespace
        return connection(self.place, namespace=self.namespace, fresh_namespace=fresh)


async def preview(launch: Launch, as_json: bool) -> int:
    """Says what would become of a job.

    Args:
        launch: The job.
        as_json: Whether for scripts.

    Returns:
        The exit code.
    """
    from fray.cli.output import print_facts, print_json
    from fray.cli.previews import preview_facts, preview_json

    async with launch.connect() as cluster:
        told = await cluster.preview(launch.request)
    home = launch.place.home
    if as_json:
        print_json(
            preview_json(launch.request, home.name if home else None, launch.place.spec, told)
        )
    else:
        print_facts(preview_facts(launch.request, launch.place.label, told))
    return 0


async def submit(launch: Launch, as_json: bool) -> int:
    """Launches a job and leaves it running.

    Args:
        launch: The job.
        as_json: Whether for scripts.

    Returns:
        The exit code.

    Raises:
        Failure: The cluster would end with this command.
    """
    from fray.cli.output import json_line, note, print_line

    if launch.place.is_local:
        raise Failure(
            "--detach needs a cluster that outlives this command; `fray up` starts one here"
        )
    async with launch.connect() as cluster:
        job_id = await cluster.launch(launch.request, submission_id=launch.submission_id)
        if as_json:
            print_line(json_line({"job_id": job_id, "cluster": cluster.address}))
            return 0
        print_line(job_id)
        if sys.stderr.isatty():
            note(f"`fray job logs -f {job_id}` shows its output")
    return 0


async def follow(launch: Launch, as_json: bool) -> int:
    """Launches a job and shows it until it has ended.

    Args:
        launch: The job.
        as_json: Whether for scripts.

    Returns:
        The exit code: see `fray.cli.exits.job_exit_code`.
    """
    from fray.cli.daemons import activate_interpreter
    from fray.cli.following import Foreground
    from fray.cli.views import JsonView, TextView
    from fray.runtime.clock import SystemClock

    if launch.place.is_local:
        activate_interpreter(os.environ)
    clock = SystemClock()
    view = JsonView() if as_json else TextView(clock)
    try:
        async with launch.connect() as cluster:
            foreground = Foreground(cluster, launch.request, view, clock, launch.submission_id)
            code = await foreground.run()
    finally:
        view.close()
    if foreground.left:
        # Whatever could not be stopped, a thread that prints to a stuck terminal included, would
        # hold up an orderly exit.
        sys.stderr.flush()
        os._exit(code)
    return code


__all__ = ["Launch", "follow", "preview", "submit"]
