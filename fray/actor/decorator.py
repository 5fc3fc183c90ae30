"""``@actor`` and ``@method``: a class becomes a service, and stays an ordinary class.

The decorators only leave marks. An instance made by calling the class is a plain object that can be
unit-tested; ``Class.remote(...)`` makes an actor.

Types. A checker sees ``@method``-marked methods of an instance as objects with ``remote``: so it
understands ``await handle.predict.remote(1)`` on what `spawn` returns, and rejects wrong calls. At
run time the mark is an attribute of the plain function.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from fray.actor.current import current_system
from fray.actor.options import ActorOptions
from fray.runtime.methods import HOOKS, OPTIONS_ATTRIBUTE, RESERVED, MethodOptions, hook_takes

if TYPE_CHECKING:
    from fray.actor.future import ActorFuture
    from fray.actor.handle import ActorHandle
    from fray.actor.stream import Stream

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
C = TypeVar("C", bound=type)

ACTOR_ATTRIBUTE = "__fray_actor__"
"""Where ``@actor`` leaves its `ActorOptions` on a class."""


class BoundMethod(Generic[P, S, R]):
    """What a checker sees as ``instance.method``: ``S`` of a direct call, ``R`` of the awaited."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> S: ...
        def remote(self, *args: P.args, **kwargs: P.kwargs) -> ActorFuture[R]: ...
        def options(
            self, *, timeout: float | None = None, retries: int | None = None
        ) -> BoundMethod[P, S, R]: ...


class BoundStream(Generic[P, S, R]):
    """What a checker sees as ``instance.method`` where that is a generator."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> S: ...
        def remote(self, *args: P.args, **kwargs: P.kwargs) -> Stream[R]: ...
        def options(self, *, timeout: float | None = None) -> BoundStream[P, S, R]: ...


class DeclaredMethod(Generic[T, P, S, R]):
    """What a checker sees as ``Class.method``."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> DeclaredMethod[T, P, S, R]: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None) -> BoundMethod[P, S, R]: ...
        def __get__(self, instance: Any, owner: Any = None) -> Any: ...


class DeclaredStream(Generic[T, P, S, R]):
    """What a checker sees as ``Class.method`` where that is a generator."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> DeclaredStream[T, P, S, R]: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None) -> BoundStream[P, S, R]: ...
        def __get__(self, instance: Any, owner: Any = None) -> Any: ...


class _MethodDecorator:
    """``@method(...)`` with options: decorates like ``@method``."""

    def __init__(self, options: MethodOptions) -> None:
        self._options = options

    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], AsyncIterator[R]], /
    ) -> DeclaredStream[T, P, AsyncIterator[R], R]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], Coroutine[Any, Any, R]], /
    ) -> DeclaredMethod[T, P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[T, P], Generator[R, Any, Any]], /
    ) -> DeclaredStream[T, P, Iterator[R], R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[T, P], R], /) -> DeclaredMethod[T, P, R, R]: ...
    def __call__(self, fn: Any, /) -> Any:
        if not callable(fn):
            raise TypeError(f"@method decorates a function, not {fn!r}")
        setattr(inspect.unwrap(fn), OPTIONS_ATTRIBUTE, self._options)
        return fn


@overload
def method(
    fn: Callable[Concatenate[T, P], AsyncIterator[R]], /
) -> DeclaredStream[T, P, AsyncIterator[R], R]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def method(
    fn: Callable[Concatenate[T, P], Coroutine[Any, Any, R]], /
) -> DeclaredMethod[T, P, Coroutine[Any, Any, R], R]: ...
@overload
def method(
    fn: Callable[Concatenate[T, P], Generator[R, Any, Any]], /
) -> DeclaredStream[T, P, Iterator[R], R]: ...
@overload
def method(fn: Callable[Concatenate[T, P], R], /) -> DeclaredMethod[T, P, R, R]: ...
@overload
def method(
    *,
    concurrent: bool = False,
    idempotent: bool = False,
    retries: int = 0,
    timeout: float | None = None,
) -> _MethodDecorator: ...
def method(
    fn: Any = None,
    /,
    *,
    concurrent: bool = False,
    idempotent: bool = False,
    retries: int = 0,
    timeout: float | None = None,
) -> Any:
    """Marks a method of an actor class: gives it options, and precise types.

    Optional: unmarked public methods can be called as well.

    Args:
        fn: The method, where used without parentheses.
        concurrent: Start its calls at once, beside the actor's other calls.
        idempotent: Running it twice does no harm.
        retries: How often a call whose fate is unknown is repeated, ≥ 0; needs ``idempotent``.
        timeout: Time limit of each call in seconds, > 0; None for none.

    Raises:
        ValueError: A value is out of bounds.
    """
    decorator: Any = _MethodDecorator(
        MethodOptions(
            concurrent=concurrent, idempotent=idempotent, retries=retries, timeout_s=timeout
        )
    )
    return decorator if fn is None else decorator(fn)


class ActorFactory(Generic[T]):
    """An actor class together with options: ``.remote(...)`` makes the actor."""

    def __init__(self, cls: type[T], options: ActorOptions) -> None:
        self._cls = cls
        self._options = options

    def __repr__(self) -> str:
        return f"<ActorFactory {self._cls.__qualname__} {self._options}>"

    def options(self, **changes: Any) -> ActorFactory[T]:
        """The same with other options.

        Args:
            **changes: See `ActorOptions`.

        Raises:
            TypeError: There is no such option.
            ValueError: A value is out of bounds.
        """
        return ActorFactory(self._cls, self._options.replace(**changes))

    @property
    def cls(self) -> type[T]:
        """The class."""
        return self._cls

    @property
    def chosen(self) -> ActorOptions:
        """The options."""
        return self._options

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuses arguments that the class's constructor does not accept.

        Args:
            args: Positional ones.
            kwargs: The others.

        Raises:
            TypeError: They do not fit.
        """
        _check_arguments(self._cls, args, kwargs)

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle[T]:
        """Makes an actor and returns its handle at once.

        Args:
            *args: Of the class's constructor.
            **kwargs: Of the class's constructor.

        Raises:
            TypeError: The constructor does not accept these arguments.
            PayloadError: The class or an argument cannot be pickled.
            NameTakenError: The name is in use.
            InfeasibleError: No host could ever run it.
        """
        _check_arguments(self._cls, args, kwargs)
        return current_system().create(self._cls, args, kwargs, self._options)


def _check_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):  # built in C: it will say so itself
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        raise TypeError(
            f"{cls.__name__}.remote(): {exc} (it is {cls.__name__}{signature})"
        ) from None


def options_of(cls: type) -> ActorOptions:
    """What ``@actor`` said of a class, else the defaults.

    Args:
        cls: The class.
    """
    return getattr(cls, ACTOR_ATTRIBUTE, ActorOptions())


def _remote(cls: type[Any], *args: Any, **kwargs: Any) -> ActorHandle[Any]:
    """Makes an actor of this class and returns its handle. See `ActorFactory.remote`."""
    return ActorFactory(cls, options_of(cls)).remote(*args, **kwargs)


def _options(cls: type[Any], **changes: Any) -> ActorFactory[Any]:
    """This class with other options. See `ActorOptions`."""
    return ActorFactory(cls, options_of(cls)).options(**changes)


def _mark(cls: Any, options: ActorOptions) -> Any:
    if not inspect.isclass(cls):
        raise TypeError(f"@actor decorates a class, not {cls!r}")
    taken = sorted(
        name
        for name in RESERVED - HOOKS.keys()
        if name in vars(cls) and not hasattr(vars(cls)[name], "__fray__")
    )
    if taken:
        raise TypeError(
            f"{cls.__name__}.{taken[0]} cannot be an actor's method: handles have their own "
            f"{taken[0]!r}; rename it"
        )
    for hook in HOOKS:
        if hasattr(cls, hook):
            hook_takes(cls, hook)  # a wrong one is refused here: as the actor ends nobody looks
    setattr(cls, ACTOR_ATTRIBUTE, options)
    for name, fn in (("remote", _remote), ("options", _options)):
        marked = classmethod(fn)
        marked.__fray__ = True  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        setattr(cls, name, marked)
    return cls


@overload
def actor(cls: C, /) -> C: ...
@overload
def actor(
    name: str | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    memory: str | None = None,
    **options: Any,
) -> Callable[[C], C]: ...
def actor(
    name: Any = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    memory: str | None = None,
    **options: Any,
) -> Any:
    """Marks a class as an actor: adds ``Class.remote(...)`` and ``Class.options(...)``.

    The class stays an ordinary class. Where it has them, ``on_start(self)`` runs before the first
    call, and ``on_stop(self)`` or ``on_stop(self, reason)``, with a `DeathCause`, after the last
    one of an actor that is told to stop; both may be ``async``.

    Args:
        name: Exclusive name of its actors; or the class, where used without parentheses.
        num_cpus: CPUs that an actor needs, ≥ 0.
        num_gpus: GPUs that an actor needs, ≥ 0; fractions are fine.
        memory: Memory that an actor needs, such as ``"8g"``.
        **options: The other options, see `ActorOptions`.

    Raises:
        TypeError: There is no such option (the message names the nearest), what is decorated is
            not a class, or ``on_start`` or ``on_stop`` cannot be called as fray calls them.
        ValueError: A value is out of bounds.
    """
    if callable(name):
        return _mark(name, ActorOptions())
    wanted = ActorOptions().replace(
        name=name, num_cpus=num_cpus, num_gpus=num_gpus, memory=memory, **options
    )

    def mark(cls: Any) -> Any:
        return _mark(cls, wanted)

    return mark


def spawn(cls: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> SpawnedActor[T]:
    """Makes an actor, in a form that type checkers understand.

    ``model = await fray.spawn(Model, "path")`` is to a checker an instance of ``Model`` whose
    ``@method``-marked methods have ``remote``; at run time it is a handle.

    Args:
        cls: The class; it need not be decorated.
        *args: Of its constructor.
        **kwargs: Of its constructor.

    Raises:
        TypeError: ``cls`` is not a class, or its constructor does not accept these arguments.
    """
    if not inspect.isclass(cls):
        raise TypeError(f"spawn() makes an actor of a class, not of {cls!r}")
    factory = ActorFactory(cast("type[T]", cls), options_of(cls))
    return cast("SpawnedActor[T]", factory.remote(*args, **kwargs))


class SpawnedActor(Generic[T]):
    """What a checker sees as the result of `spawn`; at run time an `ActorHandle`."""

    if TYPE_CHECKING:

        def __await__(self) -> Generator[Any, None, T]: ...


__all__ = [
    "ACTOR_ATTRIBUTE",
    "ActorFactory",
    "BoundMethod",
    "BoundStream",
    "DeclaredMethod",
    "DeclaredStream",
    "SpawnedActor",
    "actor",
    "method",
    "options_of",
    "spawn",
]
