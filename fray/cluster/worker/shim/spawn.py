"""Forking a child and turning it into a task, in two steps: born, then released.

Between the two its parent writes down who it is, so that no program ever runs unrecorded. What goes
wrong in the child comes back to the parent as the `OSError` that it was.

Standard library only (see the package).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from .system import die_with_parent

if TYPE_CHECKING:
    from . import cgroups


Begin = Callable[[list[str], dict[str, str]], NoReturn]
"""Goes on as a task, given its command line and its variables."""


class Newborn:
    """A forked child that waits for its release.

    Args:
        request: What an agent asks for; see `fray.cluster.worker.subprocesses`.
        group: The memory group to enter, if any.
        log: Where its output goes.
        begin: What it does in place of its program; None to execute that.
    """

    def __init__(
        self,
        request: dict[str, Any],
        group: cgroups.Group | None,
        log: int,
        begin: Begin | None = None,
    ) -> None:
        go_read, self._go = os.pipe()
        self._errors, error_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            os.close(self._errors)
            _become_task(request, group, log, go_read, error_write, begin)
        os.close(go_read)
        os.close(error_write)

    def release(self) -> None:
        """Lets the program begin, and waits until it has.

        Raises:
            OSError: The child could not become the task. It has ended, and is to be reaped.
        """
        with contextlib.suppress(BrokenPipeError):  # it has failed already, and its error says how
            os.write(self._go, b"g")
        data = b""
        while part := os.read(self._errors, 65536):  # exec closes the other end
            data += part
        self.abandon()
        if data:
            code, name, text = json.loads(data)
            raise OSError(code, text, name)

    def abandon(self) -> None:
        """Ends a child that is not released; it is to be reaped. No effect on a released one."""
        for fd in (self._go, self._errors):
            if fd >= 0:
                os.close(fd)
        self._go = self._errors = -1


def _become_task(
    request: dict[str, Any],
    group: cgroups.Group | None,
    log: int,
    go: int,
    errors: int,
    begin: Begin | None,
) -> NoReturn:
    """Runs in the child. Every descriptor but 0, 1 and 2 closes itself at ``exec`` (PEP 446)."""
    try:
        os.setsid()
        _restore_signals()
        if group is not None:
            group.enter()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        if request["user"] is not None:
            _become_user(request["user"], log)
        die_with_parent(signal.SIGKILL)
        if request["cwd"] is not None:
            os.chdir(request["cwd"])
        if os.read(go, 1):
            if begin is not None:
                _close_all_but_standard()
                begin(request["argv"], request["env"])
            _execute(request["argv"], request["env"])
    except OSError as error:
        os.write(errors, json.dumps([error.errno, error.filename, error.strerror]).encode())
    except BaseException as error:
        os.write(errors, json.dumps([errno.EINVAL, None, repr(error)]).encode())
    finally:
        os._exit(127)


def _close_all_but_standard() -> None:
    """What ``exec`` would close; the end of the errors' pipe says that the program has begun."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the one by which they are listed
                os.close(int(name))


def _restore_signals() -> None:
    """Undoes what this process, its zygote and whoever started the agent did to signals.

    "Ignored" outlives ``exec``, and Python ignores SIGPIPE, and ``nohup`` SIGHUP.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) != signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _become_user(name: str, log: int) -> None:
    entry = pwd.getpwnam(name)
    os.fchown(log, entry.pw_uid, entry.pw_gid)  # or the task could not open /dev/stdout
    os.setgroups(os.getgrouplist(name, entry.pw_gid))
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _execute(argv: list[str], environment: dict[str, str]) -> NoReturn:
    try:
        os.execvpe(argv[0], argv, environment)
    except OSError as error:  # it does not say of which program
        raise OSError(error.errno, error.strerror, argv[0]) from error
