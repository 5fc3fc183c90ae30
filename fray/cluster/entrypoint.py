"""What a job runs: a Python function or a program."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
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
    """A Python function to call; one that gives a coroutine is run to that coroutine's end.

    Attributes:
        callable: What is called; it travels by cloudpickle.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Raises:
        InvalidRequestError: It cannot be called, or not with these arguments; or it is a
            generator, of which a call runs nothing.
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
        if is_generator(self.callable):
            raise InvalidRequestError(
                f"the entrypoint {_name(self.callable)} is a generator (it has a `yield`): calling "
                "it runs nothing, and nobody takes what it yields; give a function that iterates "
                "over it"
            )
        self._check_call()

    def _check_call(self) -> None:
        try:
            signature = inspect.signature(self.callable)
        except (TypeError, ValueError):  # built in C: it will say so itself
            return
        try:
            signature.bind(*self.args, **self.kwargs)
        except TypeError as exc:
            raise InvalidRequestError(
                f"the entrypoint cannot be called so: {exc} "
                f"(it is {_name(self.callable)}{signature})"
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
            InvalidRequestError: It cannot be called, or is a generator.
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


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call runs nothing, but gives a generator, plain or asynchronous.

    Args:
        function: Anything callable.
    """
    call = getattr(type(function), "__call__", None)  # noqa: B004 - of an object with such a method
    return any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, call)
    )


def rest_of(result: object) -> Coroutine[Any, Any, object] | None:
    """What is left to run of a function that has returned: the coroutine that it gave.

    Args:
        result: What it returned.

    Raises:
        TypeError: It returned a generator, which nobody will ever iterate over.
    """
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(
            f"the job's function returned a generator ({result.__qualname__}), of which nothing "
            "has run: iterate over it in the function"
        )
    return result if inspect.iscoroutine(result) else None


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


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


__all__ = ["BinaryEntrypoint", "CallableEntrypoint", "Entrypoint", "is_generator", "rest_of"]
