"""A folder in which files appear whole or not at all. Knows fsspec; not what the files mean."""

from __future__ import annotations

import os
from typing import Any

import fsspec

UNFINISHED = ".unfinished"
"""Suffix of files that are still being written; no listing shows them."""


class Folder:
    """One flat folder of an fsspec file system, local or remote.

    A file is written beside its name and then renamed, so that a reader sees all of it or nothing
    (``rename(2)`` on local disks; object stores publish an object only when it is complete).

    Args:
        path: Any path that fsspec understands; created by the first write.
        owner: Marks this writer's unfinished files, so that a later attempt of the same writer
            can clear away what an earlier one left when it died.
    """

    def __init__(self, path: str, owner: str = "") -> None:
        self.path = path.rstrip("/")
        self._owner = owner or f"anonymous-{os.urandom(4).hex()}"
        self._fs: Any
        self._fs, self._root = fsspec.core.url_to_fs(self.path)
        self._created = False

    def names(self, suffix: str = "") -> list[str]:
        """The finished files and folders, sorted, whose name ends with `suffix`."""
        return sorted(
            name for name in self._list() if name.endswith(suffix) and UNFINISHED not in name
        )

    def write(self, name: str, data: bytes) -> None:
        """Publishes a file, replacing what had this name."""
        if not self._created:
            self._fs.makedirs(self._root, exist_ok=True)
            self._created = True
        draft = f"{self._root}/{self._owner}.{os.urandom(4).hex()}{UNFINISHED}"
        self._fs.pipe_file(draft, data)
        self._fs.mv(draft, f"{self._root}/{name}")

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            FileNotFoundError: Nobody published it, or somebody removed it.
        """
        return self._fs.cat_file(f"{self._root}/{name}")

    def exists(self, name: str) -> bool:
        """Whether a file or folder of this name is there."""
        self._fs.invalidate_cache(self._root)
        return self._fs.exists(f"{self._root}/{name}")

    def remove(self, name: str) -> None:
        """Removes a file or a whole folder; it may be gone already."""
        try:
            self._fs.rm(f"{self._root}/{name}", recursive=True)
        except FileNotFoundError:
            return

    def discard_unfinished(self) -> int:
        """Removes what earlier attempts of this owner left half-written; returns how many.

        Only for an owner of whom no two live at the same time.
        """
        drafts = [
            name
            for name in self._list()
            if name.endswith(UNFINISHED) and name.startswith(f"{self._owner}.")
        ]
        for name in drafts:
            self.remove(name)
        return len(drafts)

    def _list(self) -> list[str]:
        self._fs.invalidate_cache(self._root)
        try:
            paths = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in paths]
