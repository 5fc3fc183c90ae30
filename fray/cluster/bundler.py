"""Sending project folders to a cluster: each content once, and again only what has changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.bundles import DIGEST_FILE, Bundle, pack_workspace
from fray.cluster.resources import parse_bytes
from fray.cluster.workspace import SIZE_BYTES_MAX, SIZE_VARIABLE, WorkspaceFile, workspace_files
from fray.errors import InvalidRequestError

if TYPE_CHECKING:
    from fray.cluster.control import BlobsApi

UPLOAD_TIMEOUT_S = 600.0
"""A bundle of the largest size on a slow line."""


class Bundler:
    """The bundles of one client.

    Args:
        blobs: The controller's.
    """

    def __init__(self, blobs: BlobsApi) -> None:
        self._blobs = blobs
        self._known: dict[Path, tuple[list[WorkspaceFile], str]] = {}
        self._locks: dict[Path, asyncio.Lock] = {}

    async def send(self, workspace: str, environ: Mapping[str, str] = os.environ) -> str:
        """Makes sure that the cluster has a project folder as it is now.

        Args:
            workspace: The folder.
            environ: Where the limit of the size may be set.

        Returns:
            The digest of its bundle.

        Raises:
            InvalidRequestError: It is too large, a link points out of it, or something in it may
                not be read.
            OSError: Something in it cannot be read.
        """
        root = Path(os.path.abspath(workspace))  # noqa: ASYNC240 - no I/O
        limit = size_limit(environ)
        digest = await asyncio.to_thread(_sent_here, root)
        if digest and await self._blobs.has(digest):
            return digest
        async with self._locks.setdefault(root, asyncio.Lock()):
            known = self._known.get(root)
            try:
                files, bundle = await asyncio.to_thread(_look, root, limit, known)
            except PermissionError as exc:
                raise InvalidRequestError(
                    f"the project folder {root} cannot be sent: {exc.filename} may not be read;"
                    " name it in .frayignore, or give another folder"
                ) from exc
            if bundle is None:
                assert known is not None
                digest = known[1]
                if await self._blobs.has(digest):
                    return digest
                bundle = await asyncio.to_thread(pack_workspace, root, files)
            elif await self._blobs.has(bundle.digest):
                self._known[root] = files, bundle.digest
                return bundle.digest
            await self._blobs.put(bundle.data)
            self._known[root] = files, bundle.digest
            return bundle.digest


def _sent_here(root: Path) -> str:
    """The digest of a folder that a host has unpacked, whatever its tasks have written into it."""
    try:
        return (root.parent / DIGEST_FILE).read_text()
    except OSError:
        return ""


def _look(
    root: Path, size_bytes_max: int, known: tuple[list[WorkspaceFile], str] | None
) -> tuple[list[WorkspaceFile], Bundle | None]:
    """The files, and their bundle unless they are those of the last time."""
    files = workspace_files(root, size_bytes_max=size_bytes_max)
    if known is not None and known[0] == files:
        return files, None
    return files, pack_workspace(root, files)


def size_limit(environ: Mapping[str, str]) -> int:
    """How large a project folder may be, in bytes.

    Args:
        environ: Environment variables.

    Raises:
        InvalidRequestError: The variable is not a size.
    """
    told = environ.get(SIZE_VARIABLE, "")
    return parse_bytes(told, what=SIZE_VARIABLE) if told else SIZE_BYTES_MAX


__all__ = ["UPLOAD_TIMEOUT_S", "Bundler", "size_limit"]
