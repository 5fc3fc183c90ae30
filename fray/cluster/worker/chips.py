"""TPU chips, as the kernel tells of them: who has their device files open."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ACCEL = re.compile(r"accel(\d+)")
_VFIO = re.compile(r"\d+")


class Chips:
    """The TPU chips of this host.

    Args:
        dev: Where device files are.
    """

    def __init__(self, dev: Path = Path("/dev")) -> None:
        self._dev = dev

    def __repr__(self) -> str:
        return f"<Chips of {self._dev}: {len(self)}>"

    def _files(self) -> dict[str, int]:
        """The chips' numbers, by their files: ``accel3``, or the numbers in ``vfio`` in order."""
        named = [(path, _ACCEL.fullmatch(path.name)) for path in self._dev.glob("accel*")]
        files = {str(path): int(match[1]) for path, match in named if match}
        if not files:
            found = [p for p in self._dev.glob("vfio/*") if _VFIO.fullmatch(p.name)]
            found.sort(key=lambda path: int(path.name))
            files = {str(path): number for number, path in enumerate(found)}
        return files

    def __len__(self) -> int:
        return len(self._files())

    def holders(self) -> dict[int, list[int]]:
        """The processes that have each chip's file open, as far as this account may see."""
        files = self._files()
        found: dict[int, list[int]] = {}
        for name in os.listdir("/proc") if files else ():
            if name.isdigit():
                for number in sorted({files[each] for each in _open_files(name) if each in files}):
                    found.setdefault(number, []).append(int(name))
        return found


def _open_files(pid: str) -> list[str]:
    folder = f"/proc/{pid}/fd"
    found: list[str] = []
    try:
        for fd in os.listdir(folder):
            try:
                found.append(os.readlink(f"{folder}/{fd}"))
            except OSError:  # it was closed just now
                continue
    except OSError:  # another account's, or ended
        return []
    return found


__all__ = ["Chips"]
