"""Which cluster a command means, and the connection to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fray.cli.errors import Failure, UsageFailure
from fray.cli.knocking import nobody_listens, waiting_told
from fray.cluster.addresses import split_address
from fray.cluster.home import DEFAULT_NAME, ClusterHome, find_home_by_address

if TYPE_CHECKING:
    from fray.cluster.client import AsyncFrayCluster

T = TypeVar("T")

SCHEME = "fray://"
LOCAL = "local"
"""The spec of a cluster inside this process."""

CONNECT_TIMEOUT_S = 10.0
"""A controller that was just killed and started again answers within that time."""

NOTHING_IS_UP = (
    "no cluster is up on this machine; `fray up` starts one, --cluster fray://HOST names another"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster that a command means.

    Attributes:
        spec: As `fray.connect` takes it.
        home: Its files, where they are on this machine.
        is_ours: Whether its home's token is shown whatever ``FRAY_TOKEN_FILE`` says: of commands
            that start and end the cluster of that home.
    """

    spec: str
    home: ClusterHome | None = None
    is_ours: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it is, or would be, inside this process."""
        return self.spec.partition("?")[0] == LOCAL

    @property
    def label(self) -> str:
        """For people."""
        return f"cluster {self.home.name}" if self.home else f"the cluster at {self.spec}"


def choose(
    cluster: str | None,
    cluster_name: str | None,
    *,
    environ: Mapping[str, str],
    homes: Sequence[ClusterHome],
    root: Path | None = None,
) -> Place | None:
    """Which cluster is meant.

    What the command line says, else ``FRAY_CLUSTER_SPEC``, else the cluster that is up on this
    machine: the one named ``default``, or the only one.

    Args:
        cluster: A spec, or ``host:port``.
        cluster_name: The name of a cluster of this machine.
        environ: Environment variables.
        homes: The clusters of this machine.
        root: Where their homes are, in place of ``$FRAY_HOME``.

    Returns:
        None where nothing says which, and none is up.

    Raises:
        UsageFailure: Both are given, or the spec is no address.
        Failure: The name is unknown, that cluster is not up, or several are.
    """
    if cluster and cluster_name:
        raise UsageFailure("--cluster and --cluster-name exclude each other")
    if cluster_name:
        return _named(cluster_name, homes)
    if cluster:
        return _specified(cluster, root)
    if environ.get("FRAY_CLUSTER_SPEC"):
        place = Place(environ["FRAY_CLUSTER_SPEC"])
        # A token that was given along with the spec goes with it.
        return place if environ.get("FRAY_TOKEN_FILE") else _specified(place.spec, root)
    return _only_one(homes)


def _named(name: str, homes: Sequence[ClusterHome]) -> Place:
    home = next((each for each in homes if each.name == name), None)
    if home is None:
        known = ", ".join(each.name for each in homes) or "none"
        raise Failure(
            f"there is no cluster {name!r} on this machine (known: {known});"
            f" `fray up --name {name}` starts it"
        )
    require_up(home)
    return Place(SCHEME + home.address, home)


def require_up(home: ClusterHome) -> None:
    """Makes sure that a cluster's controller runs, as far as that can be seen from here.

    Args:
        home: The cluster's.

    Raises:
        Failure: It does not; the message says what to do.
    """
    controller = home.daemon("controller")
    restart = "`fray up`" if home.name == DEFAULT_NAME else f"`fray up --name {home.name}`"
    if controller is None:
        raise Failure(f"cluster {home.name} is not up; {restart} starts it")
    if controller.is_here and not controller.alive:
        raise Failure(
            f"the controller of cluster {home.name} (process {controller.pid}) is dead;"
            f" {restart} starts it again, with all its jobs"
        )


def _specified(spec: str, root: Path | None) -> Place:
    scheme, separator, rest = spec.partition("://")
    if not separator and ":" in spec and "?" not in spec:
        scheme, separator, rest = "fray", "://", spec
    if scheme != "fray" or not separator:
        return Place(spec)
    split_address(rest)  # a mistake is told here, and not by a name server
    return Place(SCHEME + rest, find_home_by_address(rest, root))


def _only_one(homes: Sequence[ClusterHome]) -> Place | None:
    up = [home for home in homes if _is_up(home)]
    default = [home for home in up if home.name == DEFAULT_NAME]
    if len(up) > 1 and not default:
        names = ", ".join(home.name for home in up)
        raise Failure(f"several clusters are up here ({names}); --cluster-name says which")
    home = (default or up or [None])[0]
    return None if home is None else Place(SCHEME + home.address, home)


def _is_up(home: ClusterHome) -> bool:
    controller = home.daemon("controller")
    return controller is not None and controller.alive


def require(place: Place | None, homes: Sequence[ClusterHome]) -> Place:
    """A cluster that can be asked: one that goes on between commands.

    Args:
        place: What `choose` found.
        homes: The clusters of this machine.

    Raises:
        Failure: There is none; one that should be up is worth more words than that.
    """
    if place is None:
        for home in died(homes):
            require_up(home)
        raise Failure(NOTHING_IS_UP)
    if place.is_local:
        raise Failure(
            f"{place.spec!r} is a cluster inside each process, which ends with it; "
            "`fray up` starts one that stays"
        )
    return place


def died(homes: Sequence[ClusterHome]) -> list[ClusterHome]:
    """The clusters whose controllers did not end as they should, the default one first.

    Args:
        homes: The clusters of this machine.
    """
    dead = [
        home
        for home in homes
        if (controller := home.daemon("controller")) is not None
        and controller.is_here
        and not controller.alive
    ]
    return sorted(dead, key=lambda home: (home.name != DEFAULT_NAME, home.name))


@asynccontextmanager
async def connection(
    place: Place,
    *,
    namespace: str | None = None,
    fresh_namespace: bool = False,
    timeout_s: float | None = None,
) -> AsyncGenerator[AsyncFrayCluster]:
    """A connection to a cluster, or a cluster inside this process.

    Args:
        place: Which cluster.
        namespace: See `fray.connect`.
        fresh_namespace: See `fray.connect`.
        timeout_s: How long the controller may take to answer, in seconds; None for as usual.

    Raises:
        Failure: It does not answer.
        ConnectionRefused: It does not let us in.
    """
    from fray.cluster.current import connect
    from fray.runtime.clock import SystemClock

    if timeout_s is None:
        timeout_s = CONNECT_TIMEOUT_S
    if place.spec.startswith(SCHEME) and await nobody_listens(
        place.spec.removeprefix(SCHEME), SystemClock()
    ):
        if place.home is not None:
            require_up(place.home)
        raise Failure(
            f"nobody listens at {place.spec.removeprefix(SCHEME)}: the controller there has ended,"
            " or the address is wrong; `fray up` starts a cluster on this machine"
        )
    opening = connect(place.spec, namespace=namespace, fresh_namespace=fresh_namespace)
    try:
        with waiting_told(place.label, timeout_s):
            async with asyncio.timeout(timeout_s):
                with _token_of(place):
                    cluster = await opening.__aenter__()
    except TimeoutError as exc:
        raise Failure(
            f"{place.label} does not answer within {timeout_s:g} s; is it up, and is the address"
            " right?"
        ) from exc
    try:
        yield cluster
    finally:
        await opening.__aexit__(None, None, None)


@contextmanager
def _token_of(place: Place) -> Generator[None]:
    """Has the right token shown to a cluster: the one that is set, else that of its home."""
    given = os.environ.get("FRAY_TOKEN_FILE")
    if place.home is None or (given and not place.is_ours):
        yield
        return
    os.environ["FRAY_TOKEN_FILE"] = str(place.home.token_path)
    try:
        yield
    finally:
        if given is None:
            del os.environ["FRAY_TOKEN_FILE"]
        else:
            os.environ["FRAY_TOKEN_FILE"] = given


def run_async(make: Callable[[], Coroutine[object, object, T]]) -> T:
    """Runs a command's coroutine on a new event loop; Ctrl-C cancels it.

    Args:
        make: Makes the coroutine.

    Raises:
        KeyboardInterrupt: It was cancelled by Ctrl-C.
    """
    from fray.runtime.loopthread import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(make())


__all__ = [
    "CONNECT_TIMEOUT_S",
    "LOCAL",
    "NOTHING_IS_UP",
    "SCHEME",
    "Place",
    "choose",
    "connection",
    "died",
    "require",
    "require_up",
    "run_async",
]
