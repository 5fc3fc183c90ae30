"""Who a connection is: a driver, or an attempt of a task."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass

JOB_LOOKUP_TIMEOUT_S = 30.0
"""Inside a job a look-up waits for a name that its group is about to register."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who connects.

    Attributes:
        user: Whose work it is.
        namespace: In which its actors are, and those of all that it launches.
        session_id: Of a driver: its actors end with it. Empty for a task.
        job_id: Of a task.
        attempt_id: Of a task.
        incarnation: Of a task: counts its attempts, from 1.
        task_index: Of a task.
        agent_address: The agent of its host; empty for a driver.
        lease_path: The file of its host's lease; empty where it need not mind that.
        lease_s: For how long its host's lease counts after it was renewed, in seconds.
    """

    user: str
    namespace: str
    session_id: str = ""
    job_id: str = ""
    attempt_id: str = ""
    incarnation: int = 1
    task_index: int = 0
    agent_address: str = ""
    lease_path: str = ""
    lease_s: float = 0.0

    @property
    def is_task(self) -> bool:
        """Whether it is an attempt of a task."""
        return bool(self.job_id)

    @property
    def lookup_timeout_s(self) -> float:
        """How long its look-ups wait for a name that nobody has."""
        return JOB_LOOKUP_TIMEOUT_S if self.is_task else 0.0


def user_name(environ: Mapping[str, str] = os.environ) -> str:
    """The user's name, as it begins job ids: lower case, letters, digits and dashes.

    Args:
        environ: Environment variables; ``FRAY_USER`` wins over the account's name.
    """
    try:
        raw = environ.get("FRAY_USER") or getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in many containers
        raw = "user"
    cleaned = "".join(c if c.isalnum() and c.isascii() else "-" for c in raw.lower()).strip("-")
    return cleaned or "user"


__all__ = ["Identity", "user_name"]
