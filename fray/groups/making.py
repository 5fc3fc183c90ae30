"""`group`: what a group is to be, checked where it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fray.actor.decorator import ActorFactory, options_of
from fray.checks import check_whole
from fray.cluster.accelerators import tpu_topology
from fray.groups.group import Group
from fray.groups.membership import SliceId
from fray.groups.slices import Arguments, Prepare, Recipe
from fray.runtime.restart import RestartPolicy


def group(
    actor: type[Any] | ActorFactory[Any],
    *,
    slices: int,
    min_slices: int = 1,
    tpu: str | None = None,
    hosts: int | None = None,
    args: Arguments = (),
    kwargs: Mapping[str, Any] | None = None,
    prepare: Prepare | None = None,
    name: str = "",
    shutdown_s: float = 5.0,
    intensity: int = 3,
    period_s: float = 600.0,
    max_preemptions: int = -1,
    backoff_min_s: float = 0.5,
    backoff_max_s: float = 60.0,
    **options: Any,
) -> Group:
    """One actor on each host of several slices, which come and go.

    Each slice is a fault domain of its own. Its actors start together, when there is room for all;
    if one ends, so do the others, and the slice is lost until its next life has begun, in which
    all actors are made anew. Meanwhile the others go on. While there is no room for a slice it
    waits in the cluster's queue, as anything does; a reservation of this connection serves it.

    Args:
        actor: The actors' class, plain or with ``.options(…)``.
        slices: How many slices there are to be, at least ``min_slices``.
        min_slices: So many each epoch has at least, ≥ 1; below that `Group.barrier` waits.
        tpu: What each slice is, as in ``"v5litepod-16"``. Its actors have its hosts. Where slices
            are virtual, as on the local cluster, they have as many places as it has hosts.
        hosts: Without ``tpu``, how many actors a slice has, ≥ 1; 1 by default.
        args: Of the constructor; or a function that gives them for a `Place`, called here.
        kwargs: Of the constructor.
        prepare: Awaited here with the members of each life of a slice when they run: only then it
            is there. For what takes long (JAX's start, compiling) and is nothing that the others
            should wait for. What it raises ends that life, as a failure of the slice.
        name: For people; the class's name by default.
        shutdown_s: How long the present calls of an actor may take when it is stopped, in seconds,
            ≥ 0. See `fray.ChildSpec`.
        intensity: So many times within ``period_s`` a slice may end by its own fault, ≥ 0; -1 for
            any number. Once more, and the group ends.
        period_s: In seconds, above 0, counted while the slice runs.
        max_preemptions: Preemptions and lost hosts of a slice in the group's whole life, ≥ 0; -1
            for any number.
        backoff_min_s: Delay before the next life of a slice, in seconds, ≥ 0. It doubles with each
            that follows soon.
        backoff_max_s: Largest delay, in seconds.
        **options: Of the actors, see `fray.actor`.

    Raises:
        TypeError: Something has the wrong type, there is no such option, or a method of the class
            has a name that groups use themselves.
        ValueError: A value is out of bounds.
        InvalidRequestError: There is no such TPU type.
    """
    count = _count_hosts(tpu, hosts)
    check_whole("slices", slices, check_whole("min_slices", min_slices, 1))
    if not callable(args) and not isinstance(args, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"args is a tuple, or a function of a place that gives one, not {args!r}")
    if tpu is not None:
        options["tpu"] = tpu
    factory = actor if isinstance(actor, ActorFactory) else ActorFactory(actor, options_of(actor))
    factory = factory.options(**options)
    recipe = Recipe(
        name=name or factory.cls.__name__,
        actor=factory,
        hosts=count,
        of_one_slice=tpu is not None and count > 1,
        args=args,
        kwargs=dict(kwargs or {}),
        shutdown_s=shutdown_s,
        prepare=prepare,
    )
    policy = RestartPolicy(
        max_restarts=intensity,
        period_s=period_s,
        max_preemptions=max_preemptions,
        backoff_min_s=backoff_min_s,
        backoff_max_s=backoff_max_s,
    )
    if not callable(args):
        recipe.children(SliceId(0, 1))  # what is wrong with them is told here
    return Group(recipe, policy, slices, min_slices)


def _count_hosts(tpu: str | None, hosts: int | None) -> int:
    if hosts is not None:
        check_whole("hosts", hosts, 1)
    if tpu is None:
        return hosts or 1
    has = tpu_topology(tpu).vm_count
    if hosts not in (None, has):
        raise ValueError(f"a {tpu} slice has {has} hosts, not {hosts}: leave hosts out")
    return has


__all__ = ["group"]
