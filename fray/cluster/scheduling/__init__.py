"""Where tasks go: a pure function from a view of the cluster to a plan.

::

    view.py      what the planner sees: what waits, what runs, who may use what
    hosts.py     hosts, as places for tasks
    kinds.py     hosts that are alike, so that each question is asked once for all of them
    accounts.py  what users have used and may use
    policy.py    the settings
    feasible.py  whether something fits; the planner and the ledger share it
    inventory.py which of a host's accelerators are whose
    keeping.py   what is kept on a host for somebody
    planner.py   plan(view, now): who goes where, who makes room, and why the rest waits
    order.py       who is next
    fairshare.py   what users have of what they should have
    room.py        what hosts have left
    roll.py        all hosts by kind, and who has room for what
    preempt.py     whom to stop for whom
    earmark.py     room that is kept for who has waited long
    occupants.py   who runs where
    plan.py      what it answers
    reasons.py   why candidates would not do, in few words
    explain.py   why one job waits, told whole; what would become of a job
    admission.py whether something could ever fit, asked when a job is submitted

Words. A *task* is one process on one host. A *block* is the tasks that take one slice together,
or a single task. A *unit* is what is placed all at once or not at all: a task on its own, a gang,
a group that starts, or a replica of a reservation. Nothing here reads a clock, rolls dice or knows
how a plan is carried out; ties are broken by id, so that the same view gives the same plan.
"""
