"""Groups: one actor on each host of several slices, which come and go. See `fray.group`.

::

    making       what a group is to be: `fray.group`
    group        the group, as users have it
    core         its workings: its slices, its rounds, its barrier
    calls        rounds: one call to all members, and what became of each
    slices       the lives of one slice
    membership   who belongs to which epoch: pure
"""

from fray.groups.calls import Answer, GroupMethod, Round
from fray.groups.group import Group
from fray.groups.making import group
from fray.groups.membership import SliceId
from fray.groups.slices import Member, Place

__all__ = ["Answer", "Group", "GroupMethod", "Member", "Place", "Round", "SliceId", "group"]
