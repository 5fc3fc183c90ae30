from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fray.errors import InvalidRequestError
from fray.ids import ActorId, Namespace, ProcessId
from fray.runtime import registration as words
from fray.runtime.leases import (
    QUEUE_SLACK,
    TOMBSTONE_S,
    TOMBSTONES_MAX,
    Change,
    Entry,
    Epoch,
    NameTable,
    Reason,
    Refusal,
    Refused,
    Registered,
    Registration,
)

NS = Namespace("ns")
TTL = 10.0


def claim(name: str = "model", *, key: str = "job/0", **changes: Any) -> Registration:
    base = Registration(
        NS, name, ActorId("a1"), 0, "h1:1", ProcessId("p1"), key, exclusive=False, ttl_s=TTL
    )
    return replace(base, **changes)


def exclusive(**changes: Any) -> Registration:
    return claim(exclusive=True, **changes)


def accepted(outcome: Registered | Refused) -> Registered:
    assert isinstance(outcome, Registered), outcome
    return outcome


def refused(outcome: Registered | Refused) -> Refused:
    assert isinstance(outcome, Refused), outcome
    return outcome


def actors(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.registration.actor_id for entry in entries]


# ---- having a name


def test_a_registered_name_is_found_and_announced() -> None:
    table = NameTable(1)
    outcome = accepted(table.register(claim(), 0))
    assert outcome.changes == (Change(True, outcome.entry, Reason.REGISTERED),)
    assert table.lookup(NS, "model", 0) == (outcome.entry,)
    assert outcome.entry.epoch == (1, 1)


def test_a_name_without_exclusivity_has_many_entries_the_oldest_first() -> None:
    table = NameTable(1)
    for number in range(3):
        table.register(claim(key=f"job/{number}", actor_id=ActorId(f"a{number}")), 0)
    assert actors(table.lookup(NS, "model", 0)) == ["a0", "a1", "a2"]


def test_namespaces_keep_equal_names_apart() -> None:
    table = NameTable(1)
    accepted(table.register(exclusive(), 0))
    accepted(table.register(exclusive(namespace=Namespace("other"), key="else"), 0))
    assert table.namespaces() == ("ns", "other")


def test_globs_find_names_and_plain_names_find_only_themselves() -> None:
    table = NameTable(1)
    for name in ("env-1", "env-2", "env-10", "model"):
        table.register(claim(name, actor_id=ActorId(name)), 0)
    assert actors(table.lookup(NS, "env-*", 0)) == ["env-1", "env-10", "env-2"]
    assert actors(table.lookup(NS, "env-?", 0)) == ["env-1", "env-2"]
    assert actors(table.lookup(NS, "env-[2-9]", 0)) == ["env-2"]
    assert table.lookup(NS, "env", 0) == ()
    assert actors(table.entries(NS, 0, prefix="env-1")) == ["env-1", "env-10"]
    assert actors(table.entries(NS, 0)) == ["env-1", "env-10", "env-2", "model"]


# ---- leases


def test_a_lease_lapses_at_its_end_when_nobody_renews_it() -> None:
    table = NameTable(1)
    entry = accepted(table.register(claim(), 0)).entry
    assert table.next_expiry() == TTL
    assert table.expire(TTL - 0.1) == []
    assert table.lookup(NS, "model", TTL - 0.1)
    assert not table.lookup(NS, "model", TTL)  # not even before it is swept up
    assert table.expire(TTL) == [Change(False, entry, Reason.EXPIRED)]
    assert (len(table), table.next_expiry()) == (0, None)


def test_a_renewed_lease_lives_on() -> None:
    table = NameTable(1)
    entry = accepted(table.register(claim(), 0)).entry
    assert table.renew([entry.epoch], 9) == ()
    assert table.expire(18.9) == []
    assert table.next_expiry() == 9 + TTL
    assert len(table.expire(19)) == 1


def test_renewing_tells_which_epochs_are_unknown() -> None:
    table = NameTable(1)
    entry = accepted(table.register(claim(), 0)).entry
    other = Epoch(1, 99)
    assert table.renew([entry.epoch, other], 1) == (other,)
    assert table.renew([entry.epoch], 1 + TTL) == (entry.epoch,)  # lapsed, though not swept up


def test_renewing_a_process_renews_all_that_it_has() -> None:
    table = NameTable(1)
    for number in range(3):
        table.register(claim(f"n{number}"), 0)
    table.register(claim("n3", key="x", process_id=ProcessId("p2")), 0)
    assert table.renew_process(ProcessId("p1"), 9) == 3
    assert [c.entry.registration.name for c in table.expire(TTL)] == ["n3"]
    assert table.renew_process(ProcessId("p2"), TTL) == 0


def test_registering_the_same_again_renews_and_keeps_the_epoch() -> None:
    table = NameTable(1)
    first = accepted(table.register(claim(), 0))
    again = accepted(table.register(claim(), 9))
    assert again == Registered(first.entry, ())
    assert table.expire(TTL) == []


def test_registering_the_same_after_it_lapsed_gives_a_new_epoch() -> None:
    table = NameTable(1)
    first = accepted(table.register(claim(), 0)).entry
    again = accepted(table.register(claim(), TTL))
    assert again.entry.epoch > first.epoch
    assert [(c.added, c.reason) for c in again.changes] == [
        (False, Reason.EXPIRED),
        (True, Reason.REGISTERED),
    ]


def test_a_stalled_owner_can_lengthen_everything() -> None:
    table = NameTable(1, not_before=5)
    table.register(claim(), 0)
    table.postpone(100)
    assert table.expire(100 + TTL - 0.1) == []
    assert table.next_expiry() == 100 + TTL
    assert table.not_before == 105


# ---- who replaces whom


def test_a_later_incarnation_replaces_its_predecessor() -> None:
    table = NameTable(1)
    first = accepted(table.register(claim(), 0)).entry
    later = claim(incarnation=1, actor_id=ActorId("a2"), process_id=ProcessId("p2"))
    second = accepted(table.register(later, 1))
    assert [c.reason for c in second.changes] == [Reason.REPLACED, Reason.REGISTERED]
    assert second.entry.epoch > first.epoch
    assert actors(table.lookup(NS, "model", 1)) == ["a2"]


def test_an_earlier_incarnation_is_refused() -> None:
    table = NameTable(1)
    holder = accepted(table.register(claim(incarnation=2), 0)).entry
    outcome = refused(table.register(claim(incarnation=1), 1))
    assert (outcome.refusal, outcome.holder) == (Refusal.STALE, holder)
    assert "incarnation 2" in outcome.message


def test_an_earlier_incarnation_is_refused_even_after_the_later_one_has_gone() -> None:
    for end in ("expire", "unregister", "drop_process", "drop_owner"):
        table = NameTable(1)
        table.register(claim(incarnation=2), 0)
        {
            "expire": lambda table=table: table.expire(TTL),
            "unregister": lambda table=table: table.unregister(NS, "model", ActorId("a1"), 2, 1),
            "drop_process": lambda table=table: table.drop_process(ProcessId("p1"), 1),
            "drop_owner": lambda table=table: table.drop_owner("job", 1),
        }[end]()
        assert len(table) == 0
        assert refused(table.register(claim(incarnation=1), TTL)).refusal is Refusal.STALE
        accepted(table.register(claim(incarnation=2), TTL))


def test_another_process_cannot_pass_for_the_same_incarnation() -> None:
    table = NameTable(1)
    table.register(claim(), 0)
    outcome = refused(table.register(claim(process_id=ProcessId("p2")), 1))
    assert outcome.refusal is Refusal.STALE


def test_a_process_may_change_what_it_registered() -> None:
    table = NameTable(1)
    first = accepted(table.register(claim(), 0)).entry
    second = accepted(table.register(claim(metadata={"load": "3"}), 1)).entry
    assert second.epoch > first.epoch
    assert table.lookup(NS, "model", 1) == (second,)
    assert table.renew([first.epoch], 1) == (first.epoch,)


def test_tombstones_are_forgotten_in_time() -> None:
    table = NameTable(1)
    table.register(claim(incarnation=2), 0)
    table.expire(TTL)
    table.expire(TTL + TOMBSTONE_S)
    accepted(table.register(claim(incarnation=1), TTL + TOMBSTONE_S))


def test_tombstones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fray.runtime.leases.TOMBSTONES_MAX", 10)
    table = NameTable(1)
    for number in range(20):
        table.register(claim(f"n{number}", incarnation=1), 0)
    table.drop_owner("job", 0)
    assert isinstance(table.register(claim("n19"), 0), Refused)
    assert isinstance(table.register(claim("n0"), 0), Registered)
    assert TOMBSTONES_MAX > 10


# ---- exclusive names


def test_an_exclusive_name_is_refused_while_its_holder_lives() -> None:
    table = NameTable(1)
    holder = accepted(table.register(exclusive(), 0)).entry
    for rival in (exclusive(key="other"), claim(key="other")):
        outcome = refused(table.register(rival, 1))
        assert (outcome.refusal, outcome.holder) == (Refusal.NAME_TAKEN, holder)
        assert "'model' already belongs" in outcome.message


def test_a_name_in_use_cannot_be_had_exclusively() -> None:
    table = NameTable(1)
    table.register(claim(), 0)
    table.register(claim(key="second"), 0)
    assert refused(table.register(exclusive(key="other"), 1)).refusal is Refusal.NAME_TAKEN
    assert refused(table.register(exclusive(), 1)).refusal is Refusal.NAME_TAKEN


def test_the_only_holder_of_a_name_may_make_it_exclusive() -> None:
    table = NameTable(1)
    table.register(claim(), 0)
    accepted(table.register(exclusive(), 1))
    assert len(table.lookup(NS, "model", 1)) == 1


def test_an_exclusive_name_is_free_when_its_lease_has_lapsed() -> None:
    table = NameTable(1)
    table.register(exclusive(), 0)
    assert isinstance(table.register(exclusive(key="other"), TTL - 0.1), Refused)
    outcome = accepted(table.register(exclusive(key="other"), TTL))
    assert outcome.changes[0].reason is Reason.EXPIRED


def test_the_holder_of_an_exclusive_name_may_restart() -> None:
    table = NameTable(1)
    table.register(exclusive(), 0)
    accepted(table.register(exclusive(incarnation=1, process_id=ProcessId("p2")), 1))


# ---- leaving


def test_unregistering_takes_away_exactly_that_incarnation() -> None:
    table = NameTable(1)
    table.register(claim(), 0)
    table.register(claim(incarnation=1), 1)
    assert table.unregister(NS, "model", ActorId("a1"), 0, 2) == []  # the predecessor, too late
    assert table.unregister(NS, "model", ActorId("a2"), 1, 2) == []
    assert [c.reason for c in table.unregister(NS, "model", ActorId("a1"), 1, 2)] == [
        Reason.UNREGISTERED
    ]
    assert table.unregister(NS, "model", ActorId("a1"), 1, 2) == []


def test_a_gone_process_loses_all_its_names_and_no_other_does() -> None:
    table = NameTable(1)
    for number in range(3):
        table.register(claim(f"n{number}"), 0)
    table.register(claim("n0", key="x", process_id=ProcessId("p2"), actor_id=ActorId("b")), 0)
    assert len(table.drop_process(ProcessId("p1"), 1)) == 3
    assert actors(table.entries(NS, 1)) == ["b"]
    assert table.drop_process(ProcessId("p1"), 1) == []


def test_a_gone_owner_loses_its_keys_and_not_those_that_only_begin_alike() -> None:
    table = NameTable(1)
    for key in ("me/job-1", "me/job-1/0", "me/job-1/0/x", "me/job-10/0", "me/job", "you/me/job-1"):
        table.register(claim(key=key, actor_id=ActorId(key)), 0)
    dropped = table.drop_owner("me/job-1", 1)
    assert [c.entry.registration.key for c in dropped] == [
        "me/job-1",
        "me/job-1/0",
        "me/job-1/0/x",
    ]
    assert all(c.reason is Reason.OWNER_GONE for c in dropped)


# ---- after a start of the controller


def test_after_a_start_exclusive_names_are_not_given_anew_at_first() -> None:
    table = NameTable(2, not_before=60)
    outcome = refused(table.register(exclusive(), 0))
    assert (outcome.refusal, outcome.retry_at) == (Refusal.TOO_EARLY, 60)
    accepted(table.register(claim("pool"), 0))
    accepted(table.register(exclusive(), 60))


def test_after_a_start_a_holder_gets_its_exclusive_name_back() -> None:
    for previous in (Epoch(1, 7), Epoch(0, 0)):
        table = NameTable(2, not_before=60)
        entry = accepted(table.register(exclusive(), 0, previous=previous)).entry
        assert entry.epoch == (2, 1)
        assert refused(table.register(exclusive(key="x"), 1)).refusal is Refusal.NAME_TAKEN


def test_after_a_start_the_latest_of_several_holders_wins_in_any_order() -> None:
    for order in ((3, 8), (8, 3)):
        table = NameTable(2, not_before=60)
        for counter in order:
            wanted = exclusive(key=f"job/{counter}", actor_id=ActorId(f"a{counter}"))
            table.register(wanted, 0, previous=Epoch(1, counter))
        assert actors(table.lookup(NS, "model", 1)) == ["a8"]


def test_after_a_start_a_holder_displaces_who_came_in_meanwhile() -> None:
    table = NameTable(2, not_before=60)
    table.register(claim(key="new"), 0)
    outcome = accepted(table.register(exclusive(), 1, previous=Epoch(1, 1)))
    assert [c.reason for c in outcome.changes] == [Reason.RECLAIMED, Reason.REGISTERED]


def test_later_a_holder_that_comes_back_displaces_nobody() -> None:
    table = NameTable(2, not_before=60)
    table.register(exclusive(key="new"), 60)
    outcome = refused(table.register(exclusive(), 61, previous=Epoch(1, 1)))
    assert outcome.refusal is Refusal.NAME_TAKEN


def test_an_epoch_of_a_later_generation_shows_that_this_table_is_the_stale_one() -> None:
    with pytest.raises(InvalidRequestError, match="later controller"):
        NameTable(2).register(claim(), 0, previous=Epoch(3, 1))


# ---- bounds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "must not be empty"),
        ({"name": "x" * 256}, "256 bytes, more than 255"),
        ({"name": "é" * 128}, "256 bytes"),
        ({"name": "a*"}, "must not contain any of"),
        ({"name": "a\n"}, "printable"),
        ({"namespace": Namespace("a?")}, "namespace must not contain"),
        ({"key": ""}, "needs a key"),
        ({"key": "k" * 1025}, "key has 1025 bytes"),
        ({"address": "k" * 1025}, "address has 1025 bytes"),
        ({"incarnation": -1}, "at least 0"),
        ({"ttl_s": 0}, "ttl_s must be above 0"),
        ({"ttl_s": float("nan")}, "ttl_s must be above 0"),
        ({"ttl_s": words.TTL_S_MAX + 1}, "at most 3600 seconds"),
        ({"metadata": {"a": "x" * 5000}}, "5001 bytes"),
        ({"metadata": {str(n): "" for n in range(33)}}, "33 entries"),
    ],
)
def test_fields_out_of_bounds_are_refused(changes: dict[str, Any], message: str) -> None:
    table = NameTable(1)
    with pytest.raises(InvalidRequestError, match=message):
        table.register(claim(**changes), 0)
    assert len(table) == 0


def test_the_queue_of_expiries_stays_in_proportion() -> None:
    table = NameTable(1)
    for number in range(5 * QUEUE_SLACK):
        table.register(claim(incarnation=number, ttl_s=3600), 0)
    assert len(table) == 1
    assert len(table._queue) <= QUEUE_SLACK + 2
    assert len(table.expire(3600)) == 1


# ---- all of it, against its rules


keys = st.sampled_from(["j1/0", "j1/1", "j2/0"])
names = st.sampled_from(["a", "b"])
processes = st.sampled_from([ProcessId("p1"), ProcessId("p2"), ProcessId("p3")])
previous_epochs = st.none() | st.builds(Epoch, st.just(4), st.integers(0, 5))


class Rules(RuleBasedStateMachine):
    """Holds a mirror that knows only what the table said it changed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.table = NameTable(5, not_before=20.0)
        self.mirror: dict[Epoch, Entry] = {}
        self.heard_at: dict[Epoch, float] = {}
        self.last_epoch = Epoch(0, 0)
        self.last_incarnation: dict[tuple[str, str], int] = {}

    def follow(self, changes: tuple[Change, ...] | list[Change]) -> None:
        for change in changes:
            epoch, held = change.entry.epoch, change.entry.registration
            if not change.added:
                assert self.mirror.pop(epoch) == change.entry
                if change.reason is Reason.EXPIRED:
                    assert self.now >= self.heard_at[epoch] + held.ttl_s
                continue
            assert epoch > self.last_epoch
            self.last_epoch = epoch
            slot = held.name, held.key
            assert held.incarnation >= self.last_incarnation.get(slot, 0)
            self.last_incarnation[slot] = held.incarnation
            self.mirror[epoch] = change.entry
            self.heard_at[epoch] = self.now

    @rule(
        name=names,
        key=keys,
        process=processes,
        incarnation=st.integers(0, 4),
        wants_all=st.booleans(),
        ttl_s=st.sampled_from([3.0, 10.0]),
        previous=previous_epochs,
    )
    def register(
        self,
        name: str,
        key: str,
        process: ProcessId,
        incarnation: int,
        wants_all: bool,
        ttl_s: float,
        previous: Epoch | None,
    ) -> None:
        wanted = claim(
            name,
            key=key,
            process_id=process,
            incarnation=incarnation,
            exclusive=wants_all,
            ttl_s=ttl_s,
            actor_id=ActorId(f"{key}-actor"),
        )
        outcome = self.table.register(wanted, self.now, previous=previous)
        self.follow(outcome.changes)
        if isinstance(outcome, Registered):
            assert outcome.entry.registration == wanted
            self.heard_at[outcome.entry.epoch] = self.now
        elif outcome.refusal is Refusal.TOO_EARLY:
            assert self.now < 20.0
        elif outcome.refusal is Refusal.NAME_TAKEN:
            assert outcome.holder is not None
            assert outcome.holder.epoch in self.living()

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        if not self.mirror:
            return
        epoch = data.draw(st.sampled_from(sorted(self.mirror)))
        lapsed = self.now >= self.heard_at[epoch] + self.mirror[epoch].registration.ttl_s
        assert self.table.renew([epoch], self.now) == ((epoch,) if lapsed else ())
        if not lapsed:
            self.heard_at[epoch] = self.now

    @rule(process=processes)
    def renew_process(self, process: ProcessId) -> None:
        theirs = [e for e, x in self.living().items() if x.registration.process_id == process]
        assert self.table.renew_process(process, self.now) == len(theirs)
        for epoch in theirs:
            self.heard_at[epoch] = self.now

    @rule(name=names, key=keys, incarnation=st.integers(0, 4))
    def unregister(self, name: str, key: str, incarnation: int) -> None:
        actor_id = ActorId(f"{key}-actor")
        changes = self.table.unregister(NS, name, actor_id, incarnation, self.now)
        for change in changes:
            held = change.entry.registration
            assert (held.name, held.actor_id, held.incarnation) == (name, actor_id, incarnation)
        self.follow(changes)

    @rule(process=processes)
    def drop_process(self, process: ProcessId) -> None:
        self.follow(self.table.drop_process(process, self.now))
        assert all(x.registration.process_id != process for x in self.mirror.values())

    @rule(owner=st.sampled_from(["j1", "j2", "j1/0"]))
    def drop_owner(self, owner: str) -> None:
        self.follow(self.table.drop_owner(owner, self.now))

    @rule(seconds=st.sampled_from([0.5, 2.5, 3.0, 9.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        self.follow(self.table.expire(self.now))
        assert self.mirror == self.living()
        following = self.table.next_expiry()
        ends = [self.heard_at[e] + x.registration.ttl_s for e, x in self.mirror.items()]
        assert following == (min(ends) if ends else None)

    def living(self) -> dict[Epoch, Entry]:
        return {
            epoch: entry
            for epoch, entry in self.mirror.items()
            if self.now < self.heard_at[epoch] + entry.registration.ttl_s
        }

    @invariant()
    def what_was_announced_is_what_is_found(self) -> None:
        found = {entry.epoch: entry for entry in self.table.entries(NS, self.now)}
        assert found == self.living()
        assert len(self.table) == len(self.mirror)

    @invariant()
    def an_exclusive_name_has_one_holder(self) -> None:
        for name in ("a", "b"):
            holders = self.table.lookup(NS, name, self.now)
            if any(entry.registration.exclusive for entry in holders):
                assert len(holders) == 1
            keys_of = [entry.registration.key for entry in holders]
            assert len(set(keys_of)) == len(keys_of)


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=150, stateful_step_count=40)
