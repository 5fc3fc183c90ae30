"""Where tasks go: a pure function from a view of the cluster to a plan.

::

    view.py      what the planner sees: hosts, and the units that wait for a place
    feasible.py  whether something fits; the planner and the ledger share it
    inventory.py which of a host's accelerators are whose
    planner.py   plan(view, now): who goes where, and why the rest waits
    plan.py      what it answers
    admission.py whether something could ever fit, asked when a job is submitted

Words. A *task* is one process on one host. A *block* is the tasks that take one slice together,
or a single task. A *unit* is what is placed all at once or not at all: a task on its own, a gang,
or a group that starts. Nothing here reads a clock, rolls dice or knows how a plan is carried out;
ties are broken by id, so that the same view gives the same plan.
"""
