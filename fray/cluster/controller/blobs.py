"""The actor ``blobs``: opaque bytes by digest. Plain methods: files are written on a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fray.cluster.blobs import BlobStore


class Blobs:
    """See `BlobsApi`.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    def put(self, data: bytes) -> str:
        """See `BlobsApi.put`."""
        return self._store.put(data)

    def get(self, digest: str) -> bytes:
        """See `BlobsApi.get`."""
        return self._store.get(digest)

    def has(self, digest: str) -> bool:
        """See `BlobsApi.has`."""
        return self._store.has(digest)


__all__ = ["Blobs"]
