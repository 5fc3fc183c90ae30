"""What a job runs: a Python function or a program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fray.errors import InvalidRequestError


def _no_keywords() -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class BinaryEntrypoint:
    """A program to run.

    Attributes:
        command: The program, found as a shell would find it.
        args: Its arguments, passed as they are; no shell reads them.

    Raises:
        InvalidRequestError: There is no command, or the arguments are no list of strings.
    """

    command: str
    args: Sequence[str]

    def __post_init__(self) -> None:
        if not self.command:
            raise InvalidRequestError("an entrypoint's command is empty")
        _check_arguments(self.args)


@dataclass(frozen=True)
class CallableEntrypoint:
    """A Python function to call.

    Attributes:
        callable: What is called; it travels by cloudpickle.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Raises:
        InvalidRequestError: It cannot be called, or not with these arguments.
    """

    callable: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=_no_keywords)

    def __post_init__(self) -> None:
        if not callable(self.callable):
            raise InvalidRequestError(
                f"an entrypoint must be a function or something callable, not {self.callable!r}"
            )
        _check_given(self.args, self.kwargs)
        self._check_call()

    def _check_call(self) -> None:
        try:
            signature = inspect.signature(self.callable)
        except (TypeError, ValueError):  # built in C: it will say so itself
            return
        try:
            signature.bind(*self.args, **self.kwargs)
        except TypeError as exc:
            name = getattr(self.callable, "__name__", repr(self.callable))
            raise InvalidRequestError(
                f"the entrypoint cannot be called so: {exc} (it is {name}{signature})"
            ) from None


@dataclass(frozen=True)
class Entrypoint:
    """What a job runs: exactly one of the two.

    Attributes:
        callable_entrypoint: A Python function.
        binary_entrypoint: A program.

    Raises:
        InvalidRequestError: Neither or both are given.
    """

    callable_entrypoint: CallableEntrypoint | None = None
    binary_entrypoint: BinaryEntrypoint | None = None

    def __post_init__(self) -> None:
        if (self.callable_entrypoint is None) == (self.binary_entrypoint is None):
            raise InvalidRequestError(
                "an entrypoint is either a function or a program: use Entrypoint.from_callable "
                "or Entrypoint.from_binary"
            )

    @staticmethod
    def from_callable(
        c: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Entrypoint:
        """Runs a Python function.

        Args:
            c: The function; it travels by cloudpickle.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            InvalidRequestError: It cannot be called.
        """
        given = _no_keywords() if kwargs is None else kwargs
        _check_given(args, given)
        return Entrypoint(callable_entrypoint=CallableEntrypoint(c, tuple(args), dict(given)))

    @staticmethod
    def from_binary(command: str, args: Sequence[str]) -> Entrypoint:
        """Runs a program.

        Args:
            command: The program, found as a shell would find it.
            args: Its arguments; no shell reads them.

        Raises:
            InvalidRequestError: The command is empty or the arguments are no list of strings.
        """
        return Entrypoint(binary_entrypoint=BinaryEntrypoint(command, args))


def _check_given(args: object, kwargs: object) -> None:
    if isinstance(args, str) or not isinstance(args, Sequence):
        raise InvalidRequestError(f"args must be a list of arguments: [{args!r}]")
    if not isinstance(kwargs, Mapping):
        raise InvalidRequestError(f"kwargs must be a dict of arguments, not {kwargs!r}")


def _check_arguments(args: object) -> None:
    if isinstance(args, str):
        raise InvalidRequestError(f"args must be a list of strings: [{args!r}]")
    if not isinstance(args, Sequence) or not all(isinstance(a, str) for a in args):  # pyright: ignore[reportUnknownVariableType]
        raise InvalidRequestError(f"args must be a list of strings, not {args!r}")


__all__ = ["BinaryEntrypoint", "CallableEntrypoint", "Entrypoint"]
