"""Becoming a program inside an attempt: in its memory group, under its account, in its folder.

It is told what over a pipe, for variables are secrets and command lines are public. Standard
library only (see the package).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import termios
from typing import NoReturn

from . import cgroups, procfs

NOT_FOUND = 127
NOT_RUN = 126
"""Exit codes, as shells use them."""


def main(fd: int) -> NoReturn:
    """Reads the order, and becomes the program.

    Args:
        fd: From where the order is read, as JSON.
    """
    with open(fd, "rb") as pipe:
        order = json.load(pipe)
    argv: list[str] = order["argv"]
    try:
        if order["tty"]:
            with contextlib.suppress(OSError):  # without it Ctrl-C would do nothing
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _enter_group(order["pid"])
        if order["account"] is not None:
            uid, gid, groups = order["account"]
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
        os.chdir(order["cwd"])
        os.execvpe(argv[0], argv, order["env"])
    except OSError as error:
        print(f"fray: cannot run {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN)


def _enter_group(pid: int) -> None:
    """Joins the attempt's memory group, where it has one and this process may."""
    group = cgroups.find_memory_group(
        procfs.read_text("/proc/self/mountinfo"), procfs.read_text(f"/proc/{pid}/cgroup")
    )
    if group is not None:
        with contextlib.suppress(OSError):
            group.enter()
