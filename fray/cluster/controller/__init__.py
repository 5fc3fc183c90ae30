"""The controller: cluster actors around one ledger.

The ledger's core is pure, and is described here; the actors around it do the waiting and the
talking::

    specs.py       jobs and hosts as they are described to it
    attempt.py     attempts: one try at one task on one host
    records.py     the rest of what it knows: jobs, tasks, gangs, groups, workers
    commands.py    what may be asked of it
    events.py      what it says has happened
    tables.py      its tables, and what can be found in them without a search
    units.py       its records as the scheduler sees them
    views.py       all of it as the scheduler sees it, kept up to date
    rules/         what each command does
    state.py       `Ledger`: apply, view, desired
    codec.py       commands and tables as JSON
    journal.py     replaying them; store.py and sqlite_store.py: where they are kept
    desired.py     what each host should run
    draft.py       changes that are not made yet
    invariants.py  what is true of the tables after every command

Nothing in the core does I/O or asks what time it is: time and identifiers come with commands, so
that replaying the journal gives the same ledger.
"""
