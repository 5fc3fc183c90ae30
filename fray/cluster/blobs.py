"""Opaque bytes, named by their digest: what the control plane keeps without reading it."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import threading
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from fray.errors import InvalidRequestError, PayloadError
from fray.runtime.payload import Payload

if TYPE_CHECKING:
    from fray.runtime.transport import Buffer

BLOB_BYTES_MAX = 256 << 20
"""A pickled function with its arguments. Data belongs into storage, not into a submission."""

_COUNT = struct.Struct("<II")
_SIZE = struct.Struct("<Q")
_MAGIC = 0x59415246  # "FRAY"


def digest_of(data: bytes) -> str:
    """The name of some bytes: SHA-256, hexadecimal.

    Args:
        data: The bytes.
    """
    return hashlib.sha256(data).hexdigest()


def pack(payload: Payload) -> bytes:
    """A payload as one piece of bytes, to be kept in a file.

    Args:
        payload: The payload.
    """
    parts: list[Buffer] = [payload.data, *(memoryview(b).cast("B") for b in payload.buffers)]
    sizes = b"".join(_SIZE.pack(len(part)) for part in parts)
    return b"".join([_COUNT.pack(_MAGIC, len(parts)), sizes, *parts])


def unpack(data: bytes) -> Payload:
    """The payload that `pack` made bytes of. Its buffers are writable copies.

    Args:
        data: The bytes.

    Raises:
        PayloadError: They are none, or cut short.
    """
    try:
        magic, count = _COUNT.unpack_from(data)
        sizes = [_SIZE.unpack_from(data, _COUNT.size + i * _SIZE.size)[0] for i in range(count)]
    except struct.error as exc:
        raise PayloadError(f"a stored payload is damaged: {exc}") from exc
    offset = _COUNT.size + count * _SIZE.size
    if magic != _MAGIC or count < 1 or offset + sum(sizes) != len(data):
        raise PayloadError("a stored payload is damaged: its sizes do not fit its length")
    parts: list[bytes] = []
    for size in sizes:
        parts.append(data[offset : offset + size])
        offset += size
    buffers: Sequence[Buffer] = [bytearray(part) for part in parts[1:]]
    return Payload(parts[0], buffers)


class BlobStore:
    """Blobs as files of one directory, readable by their owner alone.

    Args:
        directory: Created where it does not exist.
    """

    def __init__(self, directory: Path) -> None:
        self._lock = threading.Lock()
        self._unwanted: set[str] = set()
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Keeps bytes.

        Args:
            data: At most `BLOB_BYTES_MAX`.

        Returns:
            Their digest.

        Raises:
            InvalidRequestError: They are too many.
        """
        if len(data) > BLOB_BYTES_MAX:
            raise InvalidRequestError(
                f"{len(data) >> 20} MiB are too much for one submission (at most "
                f"{BLOB_BYTES_MAX >> 20} MiB): put data into storage and pass its path"
            )
        digest = digest_of(data)
        path = self._directory / digest
        if not self.has(digest):
            # Of its own name (and mode 0600): many submit the same function at the same time.
            fd, temporary = tempfile.mkstemp(prefix=f"{digest}.", dir=self._directory)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            self.has(digest)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes with a digest.

        Args:
            digest: As `put` gave it.

        Raises:
            InvalidRequestError: There are none.
        """
        if not self.has(digest):
            raise InvalidRequestError(f"there is no blob {digest[:80]!r}")
        return (self._directory / digest).read_bytes()

    def has(self, digest: str) -> bool:
        """Whether there are bytes with a digest.

        Args:
            digest: As `put` gave it.
        """
        if not _is_digest(digest):
            return False
        with self._lock:  # whoever asks may be about to use it
            self._unwanted.discard(digest)
            return (self._directory / digest).exists()

    def sweep(self, wanted: Set[str]) -> int:
        """Drops what nobody wants: now, and at the sweep before, and has not asked for since.

        Args:
            wanted: Digests of all that must stay.

        Returns:
            How many were dropped.
        """
        with self._lock:
            unwanted = {p.name for p in self._directory.iterdir() if _is_digest(p.name)} - wanted
            dropped = unwanted & self._unwanted
            self._unwanted = unwanted - dropped
            for digest in dropped:
                (self._directory / digest).unlink(missing_ok=True)
        return len(dropped)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


__all__ = ["BLOB_BYTES_MAX", "BlobStore", "digest_of", "pack", "unpack"]
