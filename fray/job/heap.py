"""Keeping freed memory: so that the next large value does not begin with page faults."""

from __future__ import annotations

KEPT_BYTES = 32 << 20
"""The largest block to which the C library adapts itself; see mallopt(3)."""

_MARGIN_BYTES = 64 << 10  # for the block's own header, and rounding


def keep_freed_memory() -> None:
    """Lets the C library keep up to 64 MiB that were freed, instead of giving them back at once.

    A value of a MiB is 256 pages, and each costs a microsecond or two when it is touched for the
    first time, which is more than all else that is done with the value. glibc gives large blocks,
    and the end of its heap, back to the system, with thresholds that grow with the largest block
    that was freed: one is taken and freed here, untouched. Where somebody has set the thresholds
    (``MALLOC_TRIM_THRESHOLD_``), and with other C libraries, it has no effect.
    """
    bytearray(KEPT_BYTES - _MARGIN_BYTES)


__all__ = ["KEPT_BYTES", "keep_freed_memory"]
