"""What stands between an agent and a task: two small programs that outlive agents.

This package runs in processes of its own, started as ``python -I -S``: it may import the standard
library and itself, never the rest of fray (which would cost half a second and tens of megabytes per
task) and never a third-party package. It is the one place beside `fray.runtime.clock` that reads
the system's clock, because no simulation ever runs it.

- `zygote`: one per agent. It imports what a supervisor needs, then forks one for each request. It
  exits with its agent.
- `supervisor`: one per attempt. It starts the task, reaps its whole tree, stops it when told,
  bounds its log, and writes down how it ended. No agent's death disturbs it.
- `procfs`, `cgroups`, `system`: processes, memory groups, and the two system calls that Python
  lacks; the agent uses them too.
- `records`: the files of a run directory, which are the whole protocol between a supervisor and
  whichever agent comes along.
"""
