"""Large arrays whose own pickling copies them: as buffers, which travel beside the pickle.

Two kinds: JAX's arrays, which cannot change and so need no copy at all, and numpy's of element
types from elsewhere (``bfloat16`` and its like). Both copy themselves into the pickle, at a
fraction of the speed. Here they become flat buffers with type and shape.

This room knows the public interfaces of numpy and JAX, and imports neither: where they have not
been imported there is no array of theirs.
"""

from __future__ import annotations

import sys
from typing import Any

ARRAY_CLASSES = frozenset(("ArrayImpl", "ndarray"))
"""Names of the classes that `reduce_array` is to be asked about."""


def reduce_array(array: Any, bytes_min: int) -> Any:
    """What pickle's ``reducer_override`` returns for an object that may be such an array.

    Args:
        array: The object.
        bytes_min: Smaller arrays are left to their own pickling, as are all that have a better
            one, or are more than their elements: weakly typed ones, random keys, those of which
            this process has only a part.

    Returns:
        Its reduction, or `NotImplemented`.
    """
    numpy, jax = sys.modules.get("numpy"), sys.modules.get("jax")
    if numpy is not None and type(array) is numpy.ndarray:
        if array.dtype.isbuiltin != 2 or array.nbytes < bytes_min or not array.flags.c_contiguous:
            return NotImplemented  # 2: a type that numpy itself does not have
        return _rebuild_numpy, (_flat(array), array.dtype, array.shape)
    if (
        jax is None
        or not isinstance(array, jax.Array)
        or array.nbytes < bytes_min
        or array.weak_type
        or not array.is_fully_addressable
        or jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended)
    ):
        return NotImplemented
    on_host = sys.modules["numpy"].ascontiguousarray(array)  # of an array on the CPU: a view
    return _rebuild_jax, (_flat(on_host), on_host.dtype, on_host.shape)


def _flat(array: Any) -> Any:
    return array.reshape(-1).view("uint8")


def _rebuild_numpy(flat: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    return flat.view(dtype).reshape(shape)


def _rebuild_jax(flat: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    import jax  # pyright: ignore[reportMissingImports]

    return jax.device_put(_rebuild_numpy(flat, dtype, shape))  # pyright: ignore


__all__ = ["ARRAY_CLASSES", "reduce_array"]
