"""A host: its agent, and how tasks run there.

::

    agent.py         makes what runs be what the controller wants; the actor ``agent``
    main.py          the agent's own process
    launcher.py      the seam: starting attempts, and hearing of their end
    subprocesses.py  the real side of it, with shim/ and attempts.py
    local.py         the local cluster's: threads, and actors in the driver's process
    task.py          a task's own process; taskfile.py is what it finds there
    hosting.py       hosting an actor that the cluster made
    environment.py   the variables of an attempt
    hosts.py         what a host has
    exits.py         why an attempt ended
    logs.py          its output; output.py routes that of threads
    ports.py         ports for tasks
"""
