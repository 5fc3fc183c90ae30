"""The name table: which actors have which names, for how long, and who came after whom.

Words. A *registration* says that an actor wants a name. The table gives it a *lease*, which ends
unless it is renewed, and an *epoch*, which is larger than every epoch given before it. The *key* of
a registration is who holds the name over restarts, such as ``job/task/name``: of one key at one
name there is at most one lease, and a later *incarnation* takes it over from an earlier one. A name
has many leases of different keys, or one *exclusive* lease.

Rules. A lease that has lapsed counts for nothing, whether or not anybody has swept it up yet. An
older incarnation of a key never comes back, nor can it take anything from its successor: what
ended leaves a tombstone for `TOMBSTONE_S`. Epochs are (generation, counter); whoever owns the table
counts generations durably, one per start, and so need not write down anything else.

After a start of the controller the table is empty, though the holders live. Until `not_before` an
exclusive name is therefore given only to whoever had it: to claimants that name a previous epoch,
the largest of which wins. The rest have to wait until every old lease must have lapsed.

This room is pure: time is an argument (seconds on any one monotonic clock), and what changed is
returned, in order, for whoever watches names. It knows no wire and no actors.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from math import inf

from fray.errors import InvalidRequestError
from fray.ids import ActorId, Namespace, ProcessId
from fray.runtime.registration import (
    GLOB_CHARACTERS,
    Change,
    Entry,
    Epoch,
    Reason,
    Refusal,
    Refused,
    Registered,
    Registration,
    check_registration,
)

TOMBSTONE_S = 3600.0
"""How long it is remembered which incarnation of a key was the last: longer than a cut-off process
goes on before its agent ends it."""

TOMBSTONES_MAX = 100_000
"""The oldest are forgotten first."""

QUEUE_SLACK = 1000
"""Ended leases in the queue of expiries that are not worth the trouble of removing them."""


class _Lease:
    """An entry, and until when."""

    __slots__ = ("ended", "entry", "expires_at", "previous")

    def __init__(self, entry: Entry, expires_at: float, previous: Epoch | None) -> None:
        self.entry = entry
        self.expires_at = expires_at
        self.previous = previous
        self.ended = False

    def renew(self, now: float) -> None:
        self.expires_at = max(self.expires_at, now + self.entry.registration.ttl_s)


_Leases = dict[str, _Lease]
"""The leases of one name, by key."""

_Slot = tuple[Namespace, str, str]
"""Namespace, name and key."""


class NameTable:
    """The name table. See the module's text for its rules.

    Args:
        generation: Larger than that of every table before this one.
        not_before: Until when exclusive names are only given back.
    """

    def __init__(self, generation: int, *, not_before: float = -inf) -> None:
        self.generation = generation
        self.not_before = not_before
        self._counter = 0
        self._names: dict[Namespace, dict[str, _Leases]] = {}
        self._processes: dict[ProcessId, dict[_Slot, _Lease]] = {}
        self._epochs: dict[Epoch, _Lease] = {}
        self._queue: list[tuple[float, int, _Lease]] = []  # by a time at or before its end
        self._tombstones: dict[_Slot, tuple[int, float]] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._epochs)

    def __repr__(self) -> str:
        return f"<NameTable generation={self.generation} entries={len(self)}>"

    # ---- registering

    def register(
        self, registration: Registration, now: float, *, previous: Epoch | None = None
    ) -> Registered | Refused:
        """Gives an actor a name, or renews what it has: compare-and-set by incarnation.

        Args:
            registration: What is asked for. The very same again renews its lease and keeps its
                epoch; anything else of the same key, at the same or a later incarnation, replaces
                what was there under a new epoch.
            now: Seconds.
            previous: The epoch under which the claimant has held the name in an earlier
                generation; ``Epoch(0, 0)`` if it held it and does not know.

        Raises:
            InvalidRequestError: A field is out of its bounds, or ``previous`` is of a later
                generation than this table (whose owner then is the stale one).
        """
        check_registration(registration)
        if previous is not None and previous.generation > self.generation:
            raise InvalidRequestError(
                f"a name of generation {previous.generation} was reported to the name table of "
                f"generation {self.generation}: a later controller than this one has been started"
            )
        changes = self._sweep(registration.namespace, registration.name, now)
        leases = self._names.get(registration.namespace, {}).get(registration.name, {})
        refused = self._refuse(registration, leases, now, previous)
        if refused is not None:
            return Refused(*refused, changes=tuple(changes))
        mine = leases.get(registration.key)
        if mine is not None and mine.entry.registration == registration:
            mine.renew(now)
            return Registered(mine.entry, tuple(changes))
        if mine is not None:
            changes.append(self._end(mine, Reason.REPLACED, now))
        for other in self._rivals(registration, leases):  # none, unless the name is given back
            changes.append(self._end(other, Reason.RECLAIMED, now))
        lease = self._add(registration, now, previous)
        changes.append(Change(True, lease.entry, Reason.REGISTERED))
        return Registered(lease.entry, tuple(changes))

    def _refuse(
        self, wanted: Registration, leases: _Leases, now: float, previous: Epoch | None
    ) -> tuple[Refusal, str, Entry | None, float | None] | None:
        mine = leases.get(wanted.key)
        stale = self._stale(wanted, mine)
        if stale:
            return Refusal.STALE, stale, mine.entry if mine else None, None
        rivals = self._rivals(wanted, leases)
        starting = now < self.not_before
        if rivals:
            theirs = max((r.previous or _NEVER) for r in rivals)
            if not (starting and previous is not None and previous > theirs):
                holder = rivals[0].entry
                where = f"actor {holder.registration.actor_id} at {holder.registration.address}"
                how = "" if wanted.exclusive else "exclusively "
                text = f"name {wanted.name!r} already belongs {how}to {where}"
                return Refusal.NAME_TAKEN, text, holder, None
        elif starting and wanted.exclusive and previous is None and mine is None:
            text = (
                f"name {wanted.name!r} may belong to an actor that has not reported since the "
                f"controller was started; else it is free in {self.not_before - now:.1f} s"
            )
            return Refusal.TOO_EARLY, text, None, self.not_before
        return None

    def _stale(self, wanted: Registration, mine: _Lease | None) -> str:
        if mine is None:
            last, _ = self._tombstones.get(_slot(wanted), (wanted.incarnation, 0.0))
            same_process = True
        else:
            held = mine.entry.registration
            last, same_process = held.incarnation, held.process_id == wanted.process_id
        if wanted.incarnation < last:
            return (
                f"incarnation {wanted.incarnation} of {wanted.key!r} is stale: incarnation {last} "
                f"has registered as {wanted.name!r} since"
            )
        if wanted.incarnation == last and not same_process:
            return f"another process has registered as incarnation {last} of {wanted.key!r}"
        return ""

    def _rivals(self, wanted: Registration, leases: _Leases) -> list[_Lease]:
        others = [lease for key, lease in leases.items() if key != wanted.key]
        if wanted.exclusive or any(other.entry.registration.exclusive for other in others):
            return others
        return []

    # ---- staying

    def renew(self, epochs: Iterable[Epoch], now: float) -> tuple[Epoch, ...]:
        """Renews leases.

        Args:
            epochs: Whose.
            now: Seconds.

        Returns:
            Those that the table does not have (any more): register these again.
        """
        unknown: list[Epoch] = []
        for epoch in epochs:
            lease = self._epochs.get(epoch)
            if lease is None or lease.expires_at <= now:
                unknown.append(epoch)
            else:
                lease.renew(now)
        return tuple(unknown)

    def renew_process(self, process_id: ProcessId, now: float) -> int:
        """Renews every lease of a process.

        Args:
            process_id: Whose.
            now: Seconds.

        Returns:
            How many it has; fewer than its process thinks means that some have to be registered
            again.
        """
        living = [s for s in self._processes.get(process_id, {}).values() if s.expires_at > now]
        for lease in living:
            lease.renew(now)
        return len(living)

    def postpone(self, delay_s: float) -> None:
        """Lengthens everything, after a time in which nobody could have been heard.

        Args:
            delay_s: How long the table's owner itself was stopped, in seconds.
        """
        for lease in self._epochs.values():
            lease.expires_at += delay_s
        self.not_before += delay_s

    # ---- leaving

    def unregister(
        self, namespace: Namespace, name: str, actor_id: ActorId, incarnation: int, now: float
    ) -> list[Change]:
        """Takes a name from exactly one incarnation of one actor; no other is touched.

        Args:
            namespace: Where the name is.
            name: The name.
            actor_id: The actor.
            incarnation: Its incarnation.
            now: Seconds.
        """
        changes: list[Change] = []
        for lease in list(self._names.get(namespace, {}).get(name, {}).values()):
            held = lease.entry.registration
            if (held.actor_id, held.incarnation) == (actor_id, incarnation):
                changes.append(self._end(lease, Reason.UNREGISTERED, now))
        return changes

    def expire(self, now: float) -> list[Change]:
        """Sweeps up what has lapsed: all leases whose time is at or before now.

        Args:
            now: Seconds.
        """
        changes: list[Change] = []
        while self._queue and self._queue[0][0] <= now:
            _, counter, lease = heapq.heappop(self._queue)
            if lease.ended:
                continue
            if lease.expires_at > now:  # renewed since it was queued
                heapq.heappush(self._queue, (lease.expires_at, counter, lease))
            else:
                changes.append(self._end(lease, Reason.EXPIRED, now))
        self._forget(now)
        return changes

    def next_expiry(self) -> float | None:
        """When `expire` will find something, unless it is renewed before; None for never."""
        while self._queue:
            at, counter, lease = self._queue[0]
            if not lease.ended and lease.expires_at <= at:
                return at
            heapq.heappop(self._queue)
            if not lease.ended:
                heapq.heappush(self._queue, (lease.expires_at, counter, lease))
        return None

    def drop_process(self, process_id: ProcessId, now: float) -> list[Change]:
        """Ends all leases of a process that is gone.

        Args:
            process_id: Which.
            now: Seconds.
        """
        leases = list(self._processes.get(process_id, {}).values())
        return [self._end(lease, Reason.PROCESS_GONE, now) for lease in leases]

    def drop_owner(self, owner: str, now: float) -> list[Change]:
        """Ends all leases whose key is, or begins with the parts of, an owner's.

        Args:
            owner: A key or the beginning of one, up to but without a slash: a job's id.
            now: Seconds.
        """
        leases = [
            lease
            for lease in self._epochs.values()
            if f"{lease.entry.registration.key}/".startswith(f"{owner}/")
        ]
        return [self._end(lease, Reason.OWNER_GONE, now) for lease in leases]

    # ---- looking

    def lookup(self, namespace: Namespace, pattern: str, now: float) -> tuple[Entry, ...]:
        """Who has a name.

        Args:
            namespace: Where.
            pattern: A name, or a glob (``*``, ``?``, ``[…]``) of names.
            now: Seconds; what has lapsed by then is not told.

        Returns:
            All entries, by name, the oldest first.
        """
        if not any(character in pattern for character in GLOB_CHARACTERS):
            return tuple(self._living(namespace, pattern, now))
        names = self._names.get(namespace, {})
        found = sorted(name for name in names if fnmatchcase(name, pattern))
        return tuple(entry for name in found for entry in self._living(namespace, name, now))

    def entries(self, namespace: Namespace, now: float, *, prefix: str = "") -> tuple[Entry, ...]:
        """All entries of a namespace, by name, the oldest first.

        Args:
            namespace: Which.
            now: Seconds; what has lapsed by then is not told.
            prefix: What the names begin with.
        """
        names = sorted(n for n in self._names.get(namespace, {}) if n.startswith(prefix))
        return tuple(entry for name in names for entry in self._living(namespace, name, now))

    def namespaces(self) -> tuple[Namespace, ...]:
        """All namespaces in which there is a name, sorted."""
        return tuple(sorted(self._names))

    def _living(self, namespace: Namespace, name: str, now: float) -> Iterator[Entry]:
        # In the order in which they were added, which is that of their epochs.
        for lease in self._names.get(namespace, {}).get(name, {}).values():
            if lease.expires_at > now:
                yield lease.entry

    # ---- keeping

    def _add(self, registration: Registration, now: float, previous: Epoch | None) -> _Lease:
        self._counter += 1
        epoch = Epoch(self.generation, self._counter)
        lease = _Lease(Entry(registration, epoch), now + registration.ttl_s, previous)
        slot = _slot(registration)
        names = self._names.setdefault(registration.namespace, {})
        names.setdefault(registration.name, {})[registration.key] = lease
        self._processes.setdefault(registration.process_id, {})[slot] = lease
        self._epochs[epoch] = lease
        heapq.heappush(self._queue, (lease.expires_at, epoch.counter, lease))
        if len(self._queue) > 2 * len(self._epochs) + QUEUE_SLACK:
            self._queue = [item for item in self._queue if not item[2].ended]
            heapq.heapify(self._queue)
        self._tombstones.pop(slot, None)
        return lease

    def _end(self, lease: _Lease, reason: Reason, now: float) -> Change:
        held = lease.entry.registration
        slot = _slot(held)
        lease.ended = True
        del self._epochs[lease.entry.epoch]
        names = self._names[held.namespace]
        leases = names[held.name]
        del leases[held.key]
        if not leases:
            del names[held.name]
        if not names:
            del self._names[held.namespace]
        of_process = self._processes[held.process_id]
        del of_process[slot]
        if not of_process:
            del self._processes[held.process_id]
        self._tombstones[slot] = (held.incarnation, now + TOMBSTONE_S)
        if len(self._tombstones) > TOMBSTONES_MAX:
            del self._tombstones[next(iter(self._tombstones))]
        return Change(False, lease.entry, reason)

    def _sweep(self, namespace: Namespace, name: str, now: float) -> list[Change]:
        leases = list(self._names.get(namespace, {}).get(name, {}).values())
        lapsed = [lease for lease in leases if lease.expires_at <= now]
        return [self._end(lease, Reason.EXPIRED, now) for lease in lapsed]

    def _forget(self, now: float) -> None:
        while self._tombstones:
            slot = next(iter(self._tombstones))
            if self._tombstones[slot][1] > now:
                return
            del self._tombstones[slot]


_NEVER = Epoch(-1, 0)


def _slot(registration: Registration) -> _Slot:
    return registration.namespace, registration.name, registration.key


__all__ = [
    "TOMBSTONES_MAX",
    "TOMBSTONE_S",
    "Change",
    "Entry",
    "Epoch",
    "NameTable",
    "Reason",
    "Refusal",
    "Refused",
    "Registered",
    "Registration",
]
