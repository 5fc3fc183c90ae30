"""Functions as bytes, pickled again only where they may have changed.

A function that can be imported travels by its name. One of ``__main__`` or of a function body
travels by value, with what it refers to, and pickling that takes longer than a small task. So its
pickle is kept as long as it refers to the very same things, and these cannot change.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fray.errors import PayloadError
from fray.runtime.serialization import dumps

if TYPE_CHECKING:
    from fray.runtime.payload import Payload

_ATOMS = (
    int,
    float,
    complex,
    bool,
    str,
    bytes,
    type(None),
    types.ModuleType,
    types.BuiltinFunctionType,
)


class PickledFunctions:
    """Pickles functions, and remembers how."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Any, tuple[tuple[Any, ...], Payload]]
        self._known = weakref.WeakKeyDictionary()

    def pickle(self, fn: Callable[..., Any], label: str) -> Payload:
        """A function as it is now.

        Args:
            fn: The function.
            label: What it is called.

        Raises:
            PayloadError: It cannot be pickled.
        """
        state = state_of(fn)
        if state is None:
            return _dumps(fn, label)
        known = self._known.get(fn)
        if known is not None and same_state(known[0], state):
            return known[1]
        payload = _dumps(fn, label)
        self._known[fn] = (state, payload)
        return payload


def _dumps(fn: Callable[..., Any], label: str) -> Payload:
    try:
        return dumps(fn, what=f"the function {label}")
    except PayloadError as exc:
        raise PayloadError(f"run(): {exc}") from exc


def same_state(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether a function still refers to the very same things.

    Args:
        one: What `state_of` gave once.
        other: What it gives now.
    """
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def state_of(fn: Callable[..., Any]) -> tuple[Any, ...] | None:
    """All that a function refers to.

    Args:
        fn: The function.

    Returns:
        None where something of that could change unseen.
    """
    if not isinstance(fn, types.FunctionType):
        return None
    if fn.__dict__ or fn.__kwdefaults__:
        return None
    found: list[Any] = [fn.__code__, fn.__globals__]
    try:
        found.extend(cell.cell_contents for cell in fn.__closure__ or ())
    except ValueError:  # a cell is still empty
        return None
    found.extend(fn.__defaults__ or ())
    for name in _names(fn.__code__):
        if name in fn.__globals__:
            found.append(fn.__globals__[name])
    return tuple(found) if all(map(_is_fixed, found[2:])) else None


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _names(const)


def _is_fixed(value: object) -> bool:
    return isinstance(value, _ATOMS) or (isinstance(value, type) and value.__module__ == "builtins")


__all__ = ["PickledFunctions", "same_state", "state_of"]
