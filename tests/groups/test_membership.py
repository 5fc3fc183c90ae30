"""The membership of a group: whatever happens to slices, epochs begin at borders only."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.groups.membership import Roster, SliceId


def a(number: int, life: int = 1) -> SliceId:
    return SliceId(number, life)


def roster(*numbers: int, minimum: int = 1) -> Roster:
    """A roster in its first epoch, with these slices."""
    made = Roster(minimum, numbers)
    for number in numbers:
        made = made.came(a(number))
    first = made.border()
    assert first is not None
    return first


def test_the_first_epoch_begins_when_enough_slices_are_there():
    empty = Roster(2, (0, 1, 2))
    assert empty.border() is None
    one = empty.came(a(2))
    assert one.border() is None
    two = one.came(a(0)).border()
    assert two is not None
    assert (two.epoch, two.members) == (1, (a(0), a(2)))


def test_a_border_without_changes_begins_no_epoch():
    made = roster(0, 1)
    assert made.border() is made
    assert not made.may_change


def test_a_slice_that_is_lost_and_comes_again_makes_one_epoch():
    made = roster(0, 1).gone(a(1)).came(a(1, 2))
    assert (made.epoch, made.members, made.lost) == (1, (a(0), a(1)), {a(1)})
    following = made.border()
    assert following is not None
    assert (following.epoch, following.members) == (2, (a(0), a(1, 2)))


def test_a_slice_that_came_and_went_within_an_epoch_was_never_there():
    made = roster(0)
    made = made.resized(2).came(a(1)).gone(a(1))
    assert made.border() is made


def test_a_group_that_shrinks_lets_those_go_first_that_are_not_there():
    made = roster(0, 1, 2).resized(5).came(a(4)).gone(a(1))
    assert made.resized(4).wanted == (0, 1, 2, 4), "3 is not there, nor is 1, which is lower"
    assert made.resized(3).wanted == (0, 2, 4)
    assert made.resized(2).wanted == (0, 2)
    smallest = made.resized(1)
    assert (smallest.wanted, smallest.leaving) == ((0,), (a(2),))
    following = smallest.border()
    assert following is not None
    assert following.members == (a(0),)


def test_a_group_that_grows_again_keeps_those_who_have_not_left_yet():
    made = roster(0, 1, 2).resized(1)
    assert made.leaving == (a(1), a(2))
    again = made.resized(2)
    assert (again.wanted, again.leaving) == ((0, 1), (a(2),))


def test_a_group_cannot_be_smaller_than_its_minimum():
    with pytest.raises(ValueError, match="at least 2 slices, not 1"):
        roster(0, 1, minimum=2).resized(1)


def test_a_second_life_beside_the_first_is_refused():
    with pytest.raises(ValueError, match="another life of it is there"):
        roster(0).came(a(0, 2))


@dataclass
class History:
    """What a group has lived through, beside its roster."""

    roster: Roster
    there: set[SliceId] = field(default_factory=set)
    lives: dict[int, int] = field(default_factory=dict)
    seen: list[tuple[SliceId, ...]] = field(default_factory=list)


EVENTS = st.one_of(
    st.tuples(st.just("come"), st.integers(0, 5)),
    st.tuples(st.just("go"), st.integers(0, 5)),
    st.tuples(st.just("resize"), st.integers(1, 6)),
    st.tuples(st.just("border"), st.just(0)),
)


@given(st.integers(1, 3), st.integers(0, 3), st.lists(EVENTS, max_size=60))
def test_no_epoch_has_two_memberships_or_anybody_who_is_not_there(minimum, more, events):
    history = History(Roster(minimum, tuple(range(minimum + more))))
    for event, number in events:
        before = history.roster
        _happen(history, event, number)
        made = history.roster
        assert len({who.number for who in made.following}) == len(made.following)
        assert set(made.following) | set(made.leaving) == history.there
        assert made.lost <= set(made.members)
        assert len(made.wanted) >= minimum
        if event != "border":
            assert (made.epoch, made.members) == (before.epoch, before.members)
        elif made is not before:
            assert made.epoch == before.epoch + 1
            assert made.members != before.members
            assert set(made.members) == history.there
            assert len(made.wanted) >= len(made.members) >= minimum
            assert not made.lost
            assert not made.leaving
            assert made.members not in history.seen[-1:]
            history.seen.append(made.members)


def _happen(history: History, event: str, number: int) -> None:
    made = history.roster
    if event == "come":
        if number in made.wanted and all(who.number != number for who in history.there):
            history.lives[number] = history.lives.get(number, 0) + 1
            who = a(number, history.lives[number])
            history.there.add(who)
            history.roster = made.came(who)
    elif event == "go":
        for who in [who for who in history.there if who.number == number]:
            history.there.discard(who)
            history.roster = made.gone(who)
    elif event == "resize" and number >= made.minimum:
        history.roster = made.resized(number)
        # who was not a member yet, and is not wanted any more, is stopped at once
        kept = {*history.roster.following, *history.roster.leaving}
        history.there &= kept
    elif event == "border":
        following = made.border()
        if following is None:
            assert len(made.following) < made.minimum
        else:
            history.roster = following
            history.there &= set(following.members)
