"""Stands before the actors of the control plane: who calls, whether they may, within which limits.

Everything is refused that is not declared (`fray.cluster.access`). A refusal is raised at the
caller, and noted. What each limit means is said by the rules of whoever serves the methods: the
controller's in `fray.cluster.controller.rulebook`, an agent's in `fray.cluster.worker.rulebook`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from fray.cluster.access import Access, Scope, access_of
from fray.cluster.security.claims import Role
from fray.errors import PermissionDeniedError
from fray.runtime.calls import CURRENT_INVOCATION
from fray.runtime.transport import Principal

if TYPE_CHECKING:
    from fray.cluster.security.audit import Audit

Arguments: TypeAlias = dict[str, Any]

Rule: TypeAlias = "Callable[[Principal, Arguments], str | None]"
"""Says why somebody may not call a method so; it may narrow the arguments down to what they may."""

OURSELVES = Principal(user="", role=Role.ADMIN)
"""Who calls from within this very process: an embedded cluster's agent."""


class Guard:
    """Guards actors.

    Args:
        rules: What each limit means here.
        audit: Is told of each refusal; None where there is nobody to refuse.
    """

    def __init__(self, rules: Mapping[Scope, Rule], audit: Audit | None = None) -> None:
        self._rules = rules
        self._audit = audit

    def around(self, instance: Any, api: type) -> Any:
        """An object with the declared methods of an interface, and no others.

        Args:
            instance: Who implements them.
            api: The interface.
        """
        kind = cast("type[Any]", type(instance))
        return _guarded_class(kind, api)(instance, self)

    def admit(
        self, method: _Method, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """The arguments of a call, as its caller may make it.

        Args:
            method: Which.
            args: As they came.
            kwargs: Likewise.

        Raises:
            PermissionDeniedError: The caller may not make it.
            TypeError: These are no arguments of this method.
        """
        principal, access = caller(), method.access
        refusal = None
        bound = method.signature.bind(None, *args, **kwargs)
        if principal.role not in access.roles:
            refusal = f"it is not for the role {principal.role!r}"
        elif access.scope is not Scope.ANY:
            refusal = self._rules[access.scope](principal, bound.arguments)
        if refusal is not None:
            self._refuse(principal, method.label, refusal)
        assert not bound.kwargs, "methods of the control API have no keyword-only arguments"
        return bound.args[1:]

    def _refuse(self, principal: Principal, label: str, why: str) -> None:
        if self._audit is not None:
            self._audit.refused(
                label, why, who=principal.user, role=principal.role, origin=principal.remote
            )
        raise PermissionDeniedError(f"{principal} may not do this ({label}): {why}")


@dataclass(frozen=True, slots=True)
class _Method:
    """A declared method.

    Attributes:
        label: For people.
        access: Who may call it.
        signature: Its own.
    """

    label: str
    access: Access
    signature: inspect.Signature


class _Guarded:
    """What a guarded actor is to its cell."""

    def __init__(self, instance: Any, guard: Guard) -> None:
        self.instance = instance
        self.guard = guard

    def __repr__(self) -> str:
        return f"<guarded {self.instance!r}>"


@functools.lru_cache(maxsize=64)  # whatever knows classes' methods remembers each
def _guarded_class(kind: type[Any], api: type) -> type[_Guarded]:
    methods = {name: _guarded(kind, name, access) for name, access in access_of(api).items()}
    return type(kind.__name__, (_Guarded,), methods)


def _guarded(kind: type[Any], name: str, access: Access) -> Any:
    function: Callable[..., Any] = getattr(kind, name)
    method = _Method(f"{kind.__name__.lower()}.{name}", access, inspect.signature(function))

    @functools.wraps(function)
    async def call(self: _Guarded, *args: Any, **kwargs: Any) -> Any:
        if caller().role != Role.ADMIN:
            args, kwargs = self.guard.admit(method, args, kwargs), {}
        return await getattr(self.instance, name)(*args, **kwargs)

    @functools.wraps(function)
    def call_plain(self: _Guarded, *args: Any, **kwargs: Any) -> Any:
        if caller().role != Role.ADMIN:
            args, kwargs = self.guard.admit(method, args, kwargs), {}
        return getattr(self.instance, name)(*args, **kwargs)

    return call if inspect.iscoroutinefunction(function) else call_plain


def caller() -> Principal:
    """Who made the call that is being served; this process itself where it came from within."""
    invocation = CURRENT_INVOCATION.get()
    principal = invocation.caller if invocation is not None else None
    return OURSELVES if principal is None else principal


__all__ = ["OURSELVES", "Arguments", "Guard", "Rule", "caller"]
