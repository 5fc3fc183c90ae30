"""Memory groups of the kernel (cgroups v1 and v2): a limit for a task's tree, and who was killed.

A group for an attempt is a child of the agent's own group, so that every limit on the agent holds
for its tasks too; nothing outside it is touched. Only the task and what it starts are in it, not
its supervisor, which must live to tell. See the kernel's documentation,
``admin-guide/cgroup-v1/memory.rst`` and ``admin-guide/cgroup-v2.rst``.

There is no fallback to ``RLIMIT_AS``: it limits addresses, not memory, and JAX, CUDA and every
arena allocator reserve many times the addresses that they ever touch. They would die at start, or
the limit would mean nothing. Without a usable group a task's memory is not limited.

Standard library only (see the package).
"""

from __future__ import annotations

import contextlib
import os

from . import procfs

V1 = 1
V2 = 2


class Group:
    """The memory group of one attempt.

    Args:
        path: Its directory.
        version: `V1` or `V2`.
    """

    def __init__(self, path: str, version: int) -> None:
        self.path = path
        self.version = version

    def create(self, limit_bytes: int) -> None:
        """Makes the group and sets its limit, swap included.

        Args:
            limit_bytes: The most that everything in it may use together, page cache included
                (which the kernel gives up first).

        Raises:
            OSError: The kernel refused.
        """
        os.mkdir(self.path)
        if self.version == V2:
            self._write("memory.max", limit_bytes)
            with contextlib.suppress(FileNotFoundError):  # no swap accounting
                self._write("memory.swap.max", 0)
            with contextlib.suppress(FileNotFoundError):  # before Linux 4.19
                # Half a task (a data loader gone, its trainer waiting) is worse than none.
                self._write("memory.oom.group", 1)
        else:
            self._write("memory.limit_in_bytes", limit_bytes)
            with contextlib.suppress(FileNotFoundError):
                self._write("memory.memsw.limit_in_bytes", limit_bytes)

    def enter(self) -> None:
        """Moves the calling process into the group; its later children are born there.

        Raises:
            OSError: The kernel refused.
        """
        self._write("cgroup.procs", 0)

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory, at any limit.

        Groups below it are left out. See memcg_memory_event in the kernel's memcontrol.h: the
        victim's own group counts, whichever group, or the whole host, had too little.
        """
        if self.version == V1:
            return _counter(self._read("memory.oom_control"), "oom_kill")
        # ".local" is there from Linux 5.3 on
        events = self._read("memory.events.local") or self._read("memory.events")
        return _counter(events, "oom_kill")

    def reached_limit(self) -> bool:
        """Whether its processes ever wanted more than its limit."""
        if self.version == V1:
            # Not memory.failcnt: recent kernels do not count there. Memory is charged in pieces, so
            # a limit is hit a little below it.
            most = int(self._read("memory.max_usage_in_bytes") or 0)
            limit = int(self._read("memory.limit_in_bytes") or 0)
            return most >= 0.9 * limit
        return _counter(self._read("memory.events"), "max") > 0

    def is_readable(self) -> bool:
        """Whether it counts memory kills and this process may see them."""
        name = "memory.events" if self.version == V2 else "memory.oom_control"
        return "oom_kill" in self._read(name)

    def usage_bytes(self) -> int:
        """What its processes hold now, the page cache of files left out."""
        stat = self._read("memory.stat")
        if self.version == V2:
            # The parts in memory.stat are brought up to date every two seconds; what is young and
            # small is seen in the sum alone.
            files = _counter(stat, "file") - _counter(stat, "shmem")
            return max(int(self._read("memory.current") or 0) - files, 0)
        return sum(_counter(stat, key) for key in ("total_rss", "total_shmem"))

    def pids(self) -> list[int]:
        """The processes in it."""
        return [int(line) for line in self._read("cgroup.procs").split()]

    def remove(self) -> bool:
        """Removes the group, which must be empty.

        Returns:
            Whether it is gone; the kernel may need a moment after the last process.
        """
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return True
        except OSError:  # EBUSY
            return False
        return True

    def _write(self, name: str, value: int) -> None:
        fd = os.open(os.path.join(self.path, name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(value).encode())
        finally:
            os.close(fd)

    def _read(self, name: str) -> str:
        return procfs.read_text(os.path.join(self.path, name))  # empty where the group is gone


def _counter(text: str, key: str) -> int:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def oom_kills(group: Group | None) -> int:
    """How many processes the kernel has killed for want of memory: here, or anywhere.

    Args:
        group: A group to count in; ``None`` counts on the whole host (``/proc/vmstat``, since boot,
            Linux 4.13), which is weaker evidence, for there it includes whoever else runs there.
    """
    if group is not None:
        return group.oom_kills()
    return _counter(procfs.read_text("/proc/vmstat"), "oom_kill")


def find_memory_group(mountinfo: str, cgroup: str) -> Group | None:
    """Where the memory group of a process is in the file system.

    Args:
        mountinfo: Its ``/proc/<pid>/mountinfo``.
        cgroup: Its ``/proc/<pid>/cgroup``.

    Returns:
        None where no memory controller is mounted, or the process's group is not below the mount.
    """
    paths: dict[str, str] = {}
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path  # v2's controller list is empty
    found: Group | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        root, mount_point = fields[3], fields[4]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup" and "memory" in options.split()[-1].split(","):
            path, version = paths.get("memory"), V1
        elif kind == "cgroup2" and found is None:
            path, version = paths.get(""), V2
        else:
            continue
        below = None if path is None else _below(path, root)
        if below is not None:
            found = Group(os.path.normpath(f"{mount_point}/{below}"), version)
    return found


def _below(path: str, root: str) -> str | None:
    """A group's path relative to a mount's root; a container sees only part of the tree."""
    if root == "/":
        return path
    if path == root or path.startswith(f"{root}/"):
        return path[len(root) :]
    return None


def own_memory_group() -> Group | None:
    """The memory group that this process is in, where its files can be read."""
    group = _own_group()
    return group if group is not None and group.is_readable() else None


def _own_group() -> Group | None:
    mountinfo = procfs.read_text("/proc/self/mountinfo")
    return find_memory_group(mountinfo, procfs.read_text("/proc/self/cgroup"))


def usable_parent() -> Group | None:
    """A group below which groups with limits can be made.

    Decided by trying, for permissions, read-only mounts and delegation all have a say. In v2 a
    group with processes in it cannot have limited children. There, run the agent as a systemd
    service with ``Delegate=yes`` and ``DelegateSubgroup=agent``: the groups of attempts are then
    made beside the agent's, in the service's own group, which systemd marks as delegated.
    """
    # In v2 it may have no files about memory yet: systemd delegates the controller to the service's
    # group, and it is for the service to hand it on to the groups below.
    own = _own_group()
    if own is None:
        return None
    candidates = [own]
    above = os.path.dirname(own.path)
    if own.version == V2 and _is_delegated(above):
        candidates.append(Group(above, V2))
    return next((group for group in candidates if _can_have_children(group)), None)


def _is_delegated(path: str) -> bool:
    """Whether systemd gave this group to the service that runs in it (systemd.exec(5))."""
    try:
        return os.getxattr(path, "user.delegate") == b"1"
    except OSError:
        return False


def _can_have_children(parent: Group) -> bool:
    if parent.version == V2:
        # Fails where it is on already or may not be; what follows tells whether it is on.
        control = os.path.join(parent.path, "cgroup.subtree_control")
        with contextlib.suppress(OSError), open(control, "w", encoding="ascii") as file:
            file.write("+memory")
    probe = Group(os.path.join(parent.path, f"fray-probe-{os.getpid()}"), parent.version)
    try:
        probe.create(1 << 30)
    except OSError:
        return False
    finally:
        probe.remove()
    return True
