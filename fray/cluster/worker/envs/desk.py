"""Between the agent's roster and the environments of its host: one attempt at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.worker.envs.manager import Asked, Environments, Surroundings
from fray.cluster.worker.logs import LogWriter
from fray.errors import ClusterUnavailable
from fray.runtime.tasks import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fray.cluster.control import BlobsApi
    from fray.cluster.controller.desired import AttemptSpec
    from fray.cluster.worker.accounts import Account
    from fray.ids import AttemptId
    from fray.runtime.clock import Clock

RETRY_S = 0.2
"""Between two attempts to fetch a bundle from a controller that is away."""

PREFIX = "[build] "
"""How lines of a build's log begin, among those of the task."""


class Desk:
    """Gives attempts their surroundings.

    Args:
        environments: The host's.
        bundles: The controller's blobs.
        clock: The host's.

    Attributes:
        environments: As given.
    """

    def __init__(self, environments: Environments, bundles: BlobsApi, clock: Clock) -> None:
        self.environments = environments
        self._bundles = bundles
        self._clock = clock

    async def surroundings(
        self,
        attempt_id: AttemptId,
        spec: AttemptSpec,
        variables: Mapping[str, str],
        *,
        log_path: Path,
        told: asyncio.Event,
        account: Account | None = None,
    ) -> Surroundings | None:
        """Where an attempt runs; None once it is told to stop: then nothing is built for it.

        Args:
            attempt_id: The attempt.
            spec: What it is.
            variables: The job's own environment variables.
            log_path: Where the build's log goes.
            told: Set when the attempt is told to stop.
            account: Under which it runs; None for the agent's own.

        Raises:
            BuildFailed: It cannot be built.
            FrayError: The bundle cannot be fetched.
            OSError: The disk is full, or broken.
        """
        asked = self._asked(spec, variables, account)
        if asked is None:
            return Surroundings()
        writer = _Lines(log_path)
        try:
            async with Scope("surroundings", _raised_below) as scope:
                obtaining = scope.spawn(
                    self.environments.obtain(attempt_id, asked, writer.say), name="obtain"
                )
                told_to_stop = scope.spawn(told.wait(), name="told")
                await asyncio.wait((obtaining, told_to_stop), return_when=asyncio.FIRST_COMPLETED)
                return obtaining.result() if obtaining.done() else None
        finally:
            writer.close()

    def _asked(
        self, spec: AttemptSpec, variables: Mapping[str, str], account: Account | None
    ) -> Asked | None:
        environment = spec.job.environment
        # A folder of this host is read by the agent, which may read more than the account.
        project = spec.job.hints.get("project", "") if account is None else ""
        image = environment.docker_image
        if not (image or environment.workspace or environment.pip_packages or project):
            return None
        return Asked(
            image=image,
            bundle=environment.workspace,
            project=project,
            extras=environment.extras,
            pip_packages=environment.pip_packages,
            variables=variables,
            fetch=self._fetch,
            account=account,
        )

    async def _fetch(self, digest: str) -> bytes:
        """A bundle. It is unpacked at once, so its bytes are not kept on the host."""
        while True:
            try:
                return await self._bundles.get(digest)
            except ClusterUnavailable:  # the controller is away: neither side's fault
                await self._clock.sleep(RETRY_S)


class _Lines:
    """An attempt's log, before it runs. Made when there is something to say."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: LogWriter | None = None

    def say(self, line: str) -> None:
        if self._writer is None:
            self._writer = LogWriter(self._path)
        self._writer.append(f"{PREFIX}{line}\n".encode(errors="replace"))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _raised_below(name: str, exc: BaseException) -> None:
    """What failed raises where it is waited for."""


__all__ = ["PREFIX", "Desk"]
