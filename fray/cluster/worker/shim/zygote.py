"""The fork server: one per agent, single-threaded, with everything imported.

Its socket brings one byte and one file descriptor per launch, and nothing else: the descriptor is a
connection between the agent and the supervisor that is forked for it. It says one byte when it is
ready. The end of the socket, which
is the end of the agent, ends it; the supervisors that it forked stay.

Standard library only (see the package).
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from typing import TYPE_CHECKING

from .supervisor import supervise
from .system import set_process_name

if TYPE_CHECKING:
    from .spawn import Begin


def main(fd: int, begin: Begin | None = None) -> None:
    """Serves until the agent is gone.

    Args:
        fd: This side of a stream socket pair.
        begin: What a task's process does in place of its program; None to execute that.
    """
    os.set_inheritable(fd, False)
    requests = socket.socket(fileno=fd)
    set_process_name("fray-zygote")
    # Whoever interrupts the agent's terminal or hangs it up means the agent, not its tasks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended supervisors leave no zombies
    gc.collect()
    gc.freeze()  # else the collector would touch, and thereby copy, every page in every child
    requests.send(b"r")  # ready: what comes from now on is served at once
    while True:
        data, fds, _flags, _address = socket.recv_fds(requests, 1, 1)
        if not data:
            return
        # Else the task would have it too. (The flag for this is ignored by recv_fds of 3.11.)
        os.set_inheritable(fds[0], False)
        if os.fork() == 0:
            requests.close()
            supervise(fds[0], begin)  # never returns
        os.close(fds[0])
