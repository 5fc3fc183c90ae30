"""One link per pair of processes: dialling, reuse, and who wins when both dial at once.

A call names a process and an address. If a link to that process is open, the call goes over it,
whoever dialled it. Otherwise the address is dialled, once however many calls wait for it, and the
waiting calls leave in order when the other side has said who it is. No call is ever sent over a
link before that, so a link that loses a race has carried nothing and closing it loses nothing.

Simultaneous dialling. When a link comes in from a process that is being dialled, the link dialled
by the smaller process id stays: the smaller one refuses what comes in, the larger one takes it and
gives up its own. Both sides decide from the same two ids, so they agree.

A link that comes in from a process to which one is open replaces it for new calls: the other side
would not dial if it still had the old one. Calls in flight on the old one end with it.

Lost links. Unless a side said goodbye, the side that had dialled dials again, and the session goes
on over the new link where the old one stopped. It ends, and the calls in
flight with it, when nobody listens at the address any more, when somebody else does, or when it has
not succeeded within `RESUME_GRACE_S`. Who learns earlier that the other process is gone, ends the
calls to it earlier: `on_stopped` tells when it is worth asking.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from fray.errors import ActorUnavailable, ConnectionRefused, FrayError, Started
from fray.runtime.events import Role
from fray.runtime.peer import Peer

if TYPE_CHECKING:
    from fray.runtime.builtin import Builtin
    from fray.runtime.calls import OutgoingCall
    from fray.runtime.cell import Cell
    from fray.runtime.clock import Clock
    from fray.runtime.cycles import Probe
    from fray.runtime.hello import Hello
    from fray.runtime.tasks import Scope
    from fray.runtime.transport import Link, LinkHandler, Transport

log = logging.getLogger(__name__)

HELLO_TIMEOUT_S = 10.0
"""From the open link to the other side's HELLO. A loaded host answers late; a dead one never."""

RESUME_GRACE_S = 10.0
"""How long a session outlives its link."""

REDIAL_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Before each attempt to go on; the last one again and again."""

RACE_S = 2.0
"""Two dials that cross are this near to each other; later ones mean that the link was lost."""

DUPLICATE = "duplicate: the other direction's link is used"


class _Dial:
    """An attempt to reach an address, and who waits for it. A `Carrier` while they wait."""

    def __init__(self, process_id: str, address: str) -> None:
        self.process_id = process_id
        self.address = address
        self.waiting: deque[tuple[str, OutgoingCall]] = deque()
        self.ready: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()

    def cancel(self, call: OutgoingCall) -> None:
        """Nobody waits for this call: it is not sent."""
        call.done = True

    def grant(self, call: OutgoingCall, items: int, nbytes: int) -> None:
        """A stream that has not begun cannot be consumed."""

    def probe(self, call: OutgoingCall, probe: Probe) -> None:
        """What has not been sent waits for no actor."""

    def break_cycle(self, call: OutgoingCall, chain: str) -> None:
        """What has not been sent is in no cycle."""


class Peers:
    """All connections of a process.

    Args:
        hello: What this process says of itself; asked for at each link.
        clock: The process's clock.
        transport: Opens links.
        cells: The actors hosted here, by target.
        builtin: What the process answers for itself.
        scope: Owns the dialling tasks.

    Attributes:
        on_lost: Told, each, of every peer that was open and is no more; they must not raise.
        on_stopped: Told, each, of every peer whose link was lost and did not come back at once;
            they must not raise.
    """

    def __init__(
        self,
        hello: Callable[[], Hello],
        *,
        clock: Clock,
        transport: Transport,
        cells: dict[str, Cell],
        builtin: Builtin,
        scope: Scope,
    ) -> None:
        self._hello = hello
        self._clock = clock
        self._transport = transport
        self._cells = cells
        self._builtin = builtin
        self._scope = scope
        self._all: dict[Peer, None] = {}
        self._by_process: dict[str, Peer] = {}
        self._by_address: dict[str, Peer] = {}
        self._dials: dict[str, _Dial] = {}
        self._mine: dict[Peer, _Dial] = {}
        self._resuming: dict[Peer, Peer] = {}  # the new one, and whose session it would go on with
        self._sessions = 0
        self._closed = False
        self.on_lost: list[Callable[[Peer], None]] = []
        self.on_stopped: list[Callable[[Peer], None]] = []

    def __repr__(self) -> str:
        return f"<Peers open={list(self._by_process.values())} dialling={list(self._dials)}>"

    def open_peers(self) -> list[Peer]:
        """The peers that calls may go to at present."""
        return list(self._by_process.values())

    def send(self, process_id: str, address: str, target: str, call: OutgoingCall) -> None:
        """Sends a call, dialling where needed. Its sink is told the outcome in any case.

        Args:
            process_id: Which process; empty for whoever answers at the address.
            address: ``host:port`` of that process.
            target: Which actor there.
            call: The call.
        """
        peer = self._by_process.get(process_id) if process_id else self._by_address.get(address)
        if (
            self._dials and address in self._dials
        ):  # behind what waits, also when it has just opened
            self._join(self._dials[address], target, call)
        elif peer is not None and peer.is_open:
            peer.send(target, call)
        elif self._closed:
            self._fail(call, "this process is shutting down")
        elif not address:
            self._fail(call, f"process {process_id} is not connected and has no address")
        else:
            dial = self._dials[address] = _Dial(process_id, address)
            self._scope.spawn(self._dial(dial), name=f"dial {address}")
            self._join(dial, target, call)

    @staticmethod
    def _join(dial: _Dial, target: str, call: OutgoingCall) -> None:
        call.carrier = dial
        dial.waiting.append((target, call))

    def accept(self, link: Link) -> LinkHandler:
        """Takes a link that somebody else dialled.

        Args:
            link: The link.
        """
        return self._new_peer(link, Role.ACCEPTOR)

    def close(self, reason: str) -> None:
        """Says goodbye to everybody and sends nothing any more.

        Args:
            reason: Told to the peers.
        """
        self._closed = True
        for peer in list(self._all):
            peer.close(reason)

    # ---- inside

    def _new_peer(self, link: Link, role: Role, resumes: Peer | None = None) -> Peer:
        hello = self._hello()
        if role is Role.DIALER and resumes is None:
            self._sessions += 1
            hello = replace(hello, session=f"{hello.process_id}/{self._sessions}")
        elif resumes is not None:
            hello = replace(hello, session=resumes.session, resume=resumes.received)
        peer = Peer(
            link,
            role,
            hello,
            clock=self._clock,
            cells=self._cells,
            builtin=self._builtin,
            owner=self,
        )
        if resumes is not None:
            self._resuming[peer] = resumes
        self._all[peer] = None
        return peer

    async def _dial(self, dial: _Dial) -> None:
        try:
            peer = await self._reach(dial)
            if not peer.is_open:
                peer = await self._take_theirs(dial, peer)
        except (OSError, FrayError) as exc:
            why = str(exc) or type(exc).__name__
            self._end_dial(dial)
            for _, call in dial.waiting:
                self._fail(call, f"cannot reach {dial.address}: {why}", exc)
        except asyncio.CancelledError:
            self._end_dial(dial)
            for _, call in dial.waiting:
                self._fail(call, "this process is shutting down")
            raise
        else:
            self._end_dial(dial)
            while dial.waiting:  # nothing of them is kept: whoever dialled may be remembered
                target, call = dial.waiting.popleft()
                if call.done:
                    continue
                if dial.process_id and peer.process_id != dial.process_id:
                    self._fail(
                        call,
                        f"{dial.address} now belongs to another process ({peer.process_id}, not "
                        f"{dial.process_id})",
                    )
                else:
                    peer.send(target, call)

    async def _reach(self, dial: _Dial) -> Peer:
        """An open peer at the dialled address: by our link, or by one that came in meanwhile."""
        mine: list[Peer] = []

        def accept(link: Link) -> LinkHandler:
            mine.append(self._new_peer(link, Role.DIALER))
            mine[0].dialled = dial.address
            self._mine[mine[0]] = dial
            return mine[0]

        failure: list[Exception] = []

        async def connect() -> None:
            try:
                await self._transport.dial(dial.address, accept)
            except (OSError, FrayError) as exc:
                failure.append(exc)

        dialling = self._scope.spawn(connect(), name=f"connect {dial.address}")
        try:
            await asyncio.wait((dialling, dial.ready), return_when=asyncio.FIRST_COMPLETED)
            if failure and not dial.ready.done():
                raise failure[0]
            if dial.ready.done() and not dialling.done():
                dialling.cancel()
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                return await asyncio.shield(dial.ready)
        except TimeoutError:
            if mine:
                mine[0].close("no HELLO in time")
            raise TimeoutError(f"no answer within {HELLO_TIMEOUT_S:.0f} s of connecting") from None
        finally:
            if not dialling.done():
                dialling.cancel()

    async def _take_theirs(self, dial: _Dial, refused: Peer) -> Peer:
        """Our link was refused, for the other side's own is on its way: waits for that."""
        if refused.goodbye != DUPLICATE:
            raise ConnectionError(f"it ended at once: {refused.goodbye or refused.lost}")
        theirs = self._by_process.get(refused.process_id)
        if theirs is not None and theirs.is_open:
            return theirs
        dial.ready = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            return await dial.ready

    def _end_dial(self, dial: _Dial) -> None:
        if self._dials.get(dial.address) is dial:
            del self._dials[dial.address]
        self._mine = {peer: d for peer, d in self._mine.items() if d is not dial}
        if not dial.ready.done():
            dial.ready.cancel()
        elif not dial.ready.cancelled():
            dial.ready.exception()  # it may have come when nobody waited for it any more

    # ---- PeerOwner

    def predecessor(self, peer: Peer, remote: Hello) -> Peer | None:
        """See `PeerOwner.predecessor`."""
        if peer.role is Role.DIALER:
            old = self._resuming.get(peer)
        else:
            old = self._by_process.get(remote.process_id)
        if old is None or self._closed or not old.continues(remote, peer.link.principal):
            return None
        log.info("the session with %s goes on", peer.link.remote)
        self._all.pop(old, None)
        peer.dialled = peer.dialled or old.dialled
        self._by_process[remote.process_id] = peer
        for address in [a for a, known in self._by_address.items() if known is old]:
            self._by_address[address] = peer
        return old

    def settle(self, peer: Peer) -> str | None:
        """See `PeerOwner.settle`."""
        if peer.went_on:
            return None
        remote = peer.remote
        assert remote is not None
        known = self._by_process.get(remote.process_id)
        if known is not None and known.suspended:
            known.give_up(ConnectionResetError("the other side has begun another session"))
        return self._settle(peer, remote)

    def _settle(self, peer: Peer, remote: Hello) -> str | None:
        mine = self._hello().process_id
        if remote.process_id == mine:
            return "a process does not connect to itself"
        dial = self._dial_to(remote)
        known = self._by_process.get(remote.process_id)
        if peer.role is Role.ACCEPTOR and mine < remote.process_id:
            # Ours is on its way, or was opened while theirs was on its way.
            just_opened = known is not None and known.is_open and known.role is Role.DIALER
            age_s = self._clock.monotonic() - known.opened_at if known is not None else 0.0
            if dial is not None or (just_opened and age_s < RACE_S):
                return DUPLICATE
        if (
            peer.role is Role.DIALER
            and remote.process_id < mine
            and known is not None
            and known.is_open
        ):
            return None  # theirs is in use already, and they are about to refuse ours
        self._by_process[remote.process_id] = peer
        if remote.address:
            self._by_address[remote.address] = peer
        if dial is not None and not dial.ready.done():
            self._by_address[dial.address] = peer  # it may have more names than it says
            peer.is_open = True
            dial.ready.set_result(peer)
        return None

    def _dial_to(self, remote: Hello) -> _Dial | None:
        dial = self._dials.get(remote.address)
        if dial is not None:
            return dial
        for dial in self._dials.values():
            if dial.process_id == remote.process_id:
                return dial
        return None

    def stopped(self, peer: Peer) -> None:
        """See `PeerOwner.stopped`."""
        if self._closed or self._scope.closed:
            peer.give_up(peer.lost)
            return
        log.info("the link with %s was lost (%s)", peer.link.remote, peer.lost or "closed")
        if peer.role is Role.DIALER:
            self._scope.spawn(self._redial(peer), name=f"redial {peer.dialled}")
        else:
            self._scope.spawn(self._await_return(peer), name=f"await {peer.process_id}")
            self._tell_stopped(peer)

    def _tell_stopped(self, peer: Peer) -> None:
        for tell in self.on_stopped:
            tell(peer)

    async def _await_return(self, peer: Peer) -> None:
        """The other side dialled, and would dial again."""
        await self._clock.sleep(RESUME_GRACE_S)
        peer.give_up(peer.lost)

    async def _redial(self, peer: Peer) -> None:
        deadline = self._clock.monotonic() + RESUME_GRACE_S
        attempts = 0
        while peer.suspended and self._clock.monotonic() < deadline:
            await self._clock.sleep(REDIAL_PAUSES_S[min(attempts, len(REDIAL_PAUSES_S) - 1)])
            try:
                await self._go_on(peer)
            except (ConnectionRefusedError, ConnectionRefused) as exc:
                peer.lost = exc  # nobody listens there, or nobody who would know of the session
                break
            except (OSError, FrayError) as exc:
                log.debug("%s could not be dialled again: %s", peer.dialled, exc)
            if attempts == 0 and peer.suspended:
                self._tell_stopped(peer)
            attempts += 1
        peer.give_up(peer.lost)

    async def _go_on(self, old: Peer) -> None:
        """Opens a link that takes over, if the other side agrees; else it is a new session's."""
        made: list[Peer] = []

        def accept(link: Link) -> LinkHandler:
            made.append(self._new_peer(link, Role.DIALER, resumes=old))
            made[0].dialled = old.dialled
            return made[0]

        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await self._transport.dial(old.dialled, accept)
                await asyncio.shield(made[0].settled)
        finally:
            for peer in made:
                self._resuming.pop(peer, None)
                if peer.remote is None:
                    peer.close("no HELLO in time")
        if old.suspended and made[0].is_open:
            old.give_up(ConnectionResetError("the session is not known there any more"))

    def lost(self, peer: Peer) -> None:
        """See `PeerOwner.lost`."""
        self._all.pop(peer, None)
        remote = peer.remote
        if remote is None:
            self._lost_early(peer)
            return
        if self._by_process.get(remote.process_id) is peer:
            del self._by_process[remote.process_id]
        for address in [a for a, known in self._by_address.items() if known is peer]:
            del self._by_address[address]
        for tell in self.on_lost:
            tell(peer)

    def _lost_early(self, peer: Peer) -> None:
        """A link ended before its other side said who it is: whoever dialled need not wait."""
        dial = self._mine.pop(peer, None)
        if dial is not None and not dial.ready.done() and peer.goodbye != DUPLICATE:
            why = peer.goodbye or str(peer.lost or "the connection was closed")
            dial.ready.set_exception(ConnectionError(f"it ended before HELLO: {why}"))

    @staticmethod
    def _fail(call: OutgoingCall, why: str, cause: BaseException | None = None) -> None:
        if call.done:
            return
        call.done = True
        exc = ActorUnavailable(f"{call.method} was not sent: {why}", started=Started.NO)
        exc.__cause__ = cause
        call.sink.on_failure(exc)


__all__ = ["DUPLICATE", "HELLO_TIMEOUT_S", "Peers"]
