"""Under which account of its host a task runs, where the agent is root and is told to say so.

Without that all tasks run in the agent's account, and are not isolated from each other: they can
read each other's files, memory and tokens. With an account for each user they cannot.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from fray.errors import ClusterError, InvalidRequestError

NOBODY = "nobody"

TASKS_ROOT = Path("/var/lib/fray")
"""Below it lie the run directories of tasks that have accounts: homes are closed to others."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this host.

    Attributes:
        name: Its name.
        uid: Its number, never 0.
        gid: The number of its first group.
        home: Its home directory, which need not exist.
    """

    name: str
    uid: int
    gid: int
    home: str = "/nonexistent"


class TaskAccounts:
    """Gives each user's tasks an account.

    Args:
        told: ``auto`` (the account of the user's name where there is one, else ``nobody``), the
            name of one account for all, or a table from users to accounts.

    Raises:
        InvalidRequestError: It cannot be done here: this process is not root, or one of the
            accounts is missing or root's.
    """

    def __init__(self, told: str | Mapping[str, str]) -> None:
        if os.geteuid() != 0:
            raise InvalidRequestError(
                f"task_user is {told!r}, but only an agent that is root can start tasks under "
                "other accounts; run it as root, or leave task_user out"
            )
        self._told = told
        named = () if told == "auto" else told.values() if not isinstance(told, str) else (told,)
        for name in named:
            _account(name)

    @classmethod
    def parse(cls, text: str) -> TaskAccounts | None:
        """What the agent's command line says; None for an empty text.

        Args:
            text: JSON.

        Raises:
            InvalidRequestError: See `TaskAccounts`.
        """
        return cls(orjson.loads(text)) if text else None

    def of(self, user: str) -> Account:
        """The account for a user's tasks.

        Args:
            user: Whose job it is.

        Raises:
            ClusterError: There is none.
        """
        if not isinstance(self._told, str):
            name = self._told.get(user)
            if name is None:
                raise ClusterError(f"task_user of this host has no account for the user {user!r}")
            return _account(name)
        if self._told != "auto":
            return _account(self._told)
        try:
            return _account(user)
        except InvalidRequestError:
            return _account(NOBODY)


def _account(name: str) -> Account:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise InvalidRequestError(f"there is no account {name!r} on this host") from None
    if entry.pw_uid == 0:
        raise InvalidRequestError(f"tasks do not run as root: the account {name!r} is root's")
    return Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def open_root(cluster: str, worker: str) -> Path:
    """The directory of a worker whose tasks have accounts: they may go through it, not look around.

    Args:
        cluster: The cluster's name.
        worker: The worker's.

    Raises:
        InvalidRequestError: It is not root's, or cannot be made.
    """
    path = TASKS_ROOT / cluster / worker
    try:
        for each in (TASKS_ROOT, path.parent, path, path / "run", path / "envs"):
            each.mkdir(mode=0o711, parents=True, exist_ok=True)
            if each.lstat().st_uid != 0:
                raise InvalidRequestError(f"{each} is not root's: somebody else has made it")
            each.chmod(0o711)
    except OSError as exc:
        raise InvalidRequestError(f"{path} cannot be made: {exc.strerror}") from exc
    return path


__all__ = ["Account", "TaskAccounts", "open_root"]
