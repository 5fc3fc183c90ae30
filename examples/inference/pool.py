"""`InferencePool`: servers come and go, and whoever calls need not know."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import fray
from examples.inference.server import POOL, serve
from fray.cluster import (
    Cluster,
    Entrypoint,
    EnvironmentConfig,
    JobId,
    JobRequest,
    JobStatus,
    ResourceConfig,
)
from fray.rpc import fray_resolver

if TYPE_CHECKING:
    from examples.training.config import TrainConfig

RESTARTS_MAX = 10
START_TIMEOUT_S = 120.0
POLL_S = 0.2


class InferencePool:
    """A pool of servers, each a job of its own.

    Args:
        cluster: Where they run.
        config: Of the run that has trained the model.
        env_vars: Of the servers' processes.
    """

    def __init__(self, cluster: Cluster, config: TrainConfig, env_vars: dict[str, str]) -> None:
        self._cluster = cluster
        self._config = config
        self._env_vars = env_vars
        self.job_ids: list[JobId] = []

    def __len__(self) -> int:
        return len(self.job_ids)

    def add(self) -> None:
        """Starts another server; it takes calls as soon as it has loaded the model."""
        request = JobRequest(
            name=f"inference-{len(self.job_ids)}",
            entrypoint=Entrypoint.from_callable(serve, args=(self._config,)),
            resources=ResourceConfig.with_cpu(cpu=1, ram="1g"),
            environment=EnvironmentConfig.create(env_vars=self._env_vars),
            max_retries_failure=RESTARTS_MAX,
        )
        self.job_ids.append(self._cluster.launch(request))

    def remove(self) -> None:
        """Stops the newest server: it takes no new calls, and answers those that it has."""
        job_id = self.job_ids.pop()
        self._cluster.terminate(job_id)
        self._cluster.wait(job_id)

    def wait_until_there(self, count: int) -> None:
        """Blocks until so many servers take calls.

        Args:
            count: How many.

        Raises:
            TimeoutError: They do not come.
            RuntimeError: One cannot be started.
        """
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while (there := len(fray_resolver().list_actors(prefix=POOL))) != count:
            jobs = [self._cluster.poll(job_id) for job_id in self.job_ids]
            for info in jobs:
                if JobStatus.finished(info.status):
                    raise RuntimeError(f"{info.job_id} {info.status}: {info.error_message}")
            if time.monotonic() > give_up_at:
                errors = {task.error_message for info in jobs for task in info.tasks}
                told = "; ".join(sorted(error for error in errors if error)) or "they only start"
                raise TimeoutError(f"{there} of {count} servers are there: {told}")
            time.sleep(POLL_S)

    def close(self) -> None:
        """Stops all servers."""
        for job_id in self.job_ids:
            self._cluster.terminate(job_id)
        for job_id in self.job_ids:
            self._cluster.wait(job_id)
        self.job_ids.clear()


async def generate(
    server: Any, prompt: str, length: int, seed: int, retried: list[str]
) -> AsyncIterator[bytes]:
    """A text from any server of a pool, also where a server dies on the way.

    What a server writes depends on the seed alone, so another one can take over: what was had
    already is left out.

    Args:
        server: A handle to the pool.
        prompt: As for `InferenceServer.generate`.
        length: Likewise.
        seed: Likewise.
        retried: Is told why, each time that another server has to begin again.
    """
    had = 0
    while True:
        seen = 0
        try:
            async for piece in server.generate.remote(prompt, length, seed):
                new = piece[max(had - seen, 0) :]
                seen += len(piece)
                if new:
                    had += len(new)
                    yield new
            return
        except (fray.ActorDied, fray.ActorUnavailable) as exc:
            retried.append(str(exc))
