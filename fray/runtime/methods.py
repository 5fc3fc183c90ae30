"""What can be called on an object, found once per class.

Public is what does not begin with an underscore. Whether a method is plain, asynchronous or a
generator decides how a cell runs it; `MethodOptions` (set by ``@fray.method``) say the rest.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fray.checks import check_whole
from fray.runtime.guarded import is_a

OPTIONS_ATTRIBUTE = "__fray_method__"
"""Where ``@fray.method`` leaves its `MethodOptions` on a function."""

NOT_METHODS = frozenset({"remote", "options", "on_start", "on_stop"})
"""What ``@actor`` adds to a class, and hooks: nobody calls these from elsewhere."""

RESERVED = NOT_METHODS | {"stop", "kill"}
"""Names that mean something of their own on handles."""


HOOKS = {"on_start": 0, "on_stop": 1}
"""What is called as an actor begins and ends, with how many arguments at the most."""


class Kind(Enum):
    """How a method runs."""

    SYNC = "sync"
    ASYNC = "async"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """What ``@fray.method(...)`` may say of a method.

    Attributes:
        concurrent: Run at once, beside the actor's other calls (health checks and the like).
        idempotent: Running it twice does no harm; needed for ``retries``.
        retries: How often a call is repeated after a failure that left its fate unknown, ≥ 0.
        timeout_s: Default time limit of a call, in seconds; None for none.
    """

    concurrent: bool = False
    idempotent: bool = False
    retries: int = 0
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        check_retries(self.retries)
        if self.retries and not self.idempotent:
            raise ValueError(
                "retries need idempotent=True: fray repeats a call that may have run only where "
                "running it twice does no harm"
            )
        check_timeout(self.timeout_s)


def check_timeout(timeout_s: float | None) -> None:
    """Checks a call's time limit.

    Args:
        timeout_s: In seconds, > 0; None for none.

    Raises:
        TypeError: It is no number.
        ValueError: It is not positive.
    """
    if timeout_s is None:
        return
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"timeout is a number of seconds, not {timeout_s!r}")
    if not timeout_s > 0:  # nan is not, either
        raise ValueError(f"timeout must be positive, not {timeout_s}")


def check_retries(retries: int) -> None:
    """Checks how often a call may be repeated.

    Args:
        retries: At least 0.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is negative.
    """
    check_whole("retries", retries)


DEFAULT_OPTIONS = MethodOptions()


@dataclass(frozen=True, slots=True)
class Method:
    """One callable method of a class.

    Attributes:
        name: Its name.
        kind: How it runs.
        options: What ``@fray.method`` said, else the defaults.
    """

    name: str
    kind: Kind
    options: MethodOptions = DEFAULT_OPTIONS


class Methods(dict[str, Method]):
    """The public methods of a class by name. Not to be changed.

    Attributes:
        properties: What looks like them, and cannot be called from elsewhere.
    """

    properties: frozenset[str] = frozenset()


def _kind(fn: Any) -> Kind:
    fn = inspect.unwrap(fn)
    if inspect.isasyncgenfunction(fn):
        return Kind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(fn):
        return Kind.ASYNC
    if inspect.isgeneratorfunction(fn):
        return Kind.GENERATOR
    return Kind.SYNC


@functools.lru_cache(maxsize=1024)
def methods_of(cls: type) -> Methods:
    """The public methods of a class, its bases' included.

    Args:
        cls: The class.
    """
    found = Methods()
    properties: set[str] = set()
    for name in dir(cls):
        if name.startswith("_") or name in NOT_METHODS:
            continue
        raw: Any = inspect.getattr_static(cls, name)
        if is_a(raw, (property, functools.cached_property)):
            properties.add(name)
        fn: Any = getattr(raw, "__func__", raw)  # what static and class methods wrap
        if not callable(fn) or inspect.isclass(fn):
            continue
        options = getattr(inspect.unwrap(fn), OPTIONS_ATTRIBUTE, DEFAULT_OPTIONS)
        found[name] = Method(name, _kind(fn), options)
    found.properties = frozenset(properties)
    return found


@functools.lru_cache(maxsize=1024)
def hook_takes(cls: type, name: str) -> int:
    """How many arguments a hook is called with: ``on_stop`` need not take its reason.

    Args:
        cls: An actor's class.
        name: The hook's, of `HOOKS`; the class has it.

    Raises:
        TypeError: It cannot be called so, or a call of it would run nothing.
    """
    hook: Any = getattr(cls, name)
    what = f"{cls.__name__}.{name}"
    if not callable(hook):
        raise TypeError(f"{what} is a hook, which fray calls; it must be a method, not {hook!r}")
    if _kind(hook) in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(f"{what} is a hook, and cannot be a generator: a call would run nothing")
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # built in C
        return HOOKS[name]
    unbound = inspect.isfunction(inspect.getattr_static(cls, name))
    given = [None] * HOOKS[name]
    while True:
        try:
            signature.bind(*([None] if unbound else []), *given)
        except TypeError:
            if not given:
                break
            given.pop()
        else:
            return len(given)
    wanted = f"{name}(self, reason) or {name}(self)" if HOOKS[name] else f"{name}(self)"
    passed = "the reason as its only argument, by position" if HOOKS[name] else "no arguments"
    raise TypeError(
        f"{what}{signature} cannot be called as fray calls it, with {passed}: define {wanted}"
    )


def no_such_method(owner: str, name: str, known: Iterable[str]) -> str:
    """The message for a call of a method that does not exist.

    Args:
        owner: The actor or class, for people.
        name: What was asked for.
        known: The methods that there are.
    """
    if name.startswith("_"):
        return f"{owner}.{name} is private: only methods without a leading underscore can be called"
    if isinstance(known, Methods) and name in known.properties:
        return (
            f"{owner}.{name} is a property; only methods can be called: add one that returns it, "
            f"and call that"
        )
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{owner} has no method {name!r}{hint} (it has: {', '.join(known) or 'none'})"


def not_idempotent(owner: str, name: str) -> str:
    """The message for a call that is to be repeated, of a method that did not say that it may be.

    Args:
        owner: The actor, for people.
        name: The method.
    """
    return (
        f"{owner}.{name} is not marked idempotent=True: a call that may have run is repeated only "
        "where running it twice does no harm"
    )


__all__ = [
    "DEFAULT_OPTIONS",
    "HOOKS",
    "NOT_METHODS",
    "OPTIONS_ATTRIBUTE",
    "RESERVED",
    "Kind",
    "Method",
    "MethodOptions",
    "Methods",
    "hook_takes",
    "methods_of",
    "no_such_method",
    "not_idempotent",
]
