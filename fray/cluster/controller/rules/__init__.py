"""What each command does to the ledger, as functions on a draft.

::

    stopping.py  orders to end an attempt
    verdicts.py  how jobs end
    budgets.py   how often, and how soon, something is started again
    gangs.py     gangs fall as one
    endings.py   what follows for a task, its gang and its job when an attempt ends
    attempts.py  how attempts begin, are observed and come to an end
    actors.py    actors that a supervisor starts again
    jobs.py      submitting, stopping and forgetting jobs
    repeats.py   submissions that come again
    workers.py   hosts that come, report, fall silent and go
    plans.py     carrying out the planner's decisions
    reservations.py  what is kept for jobs to come
    users.py     what users have used, and may use

They validate before they write, although a draft that fails is dropped anyway.
"""
