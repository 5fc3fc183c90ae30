"""The ``fray`` command.

::

    main        the entry point; answers `fray --version` itself
    app         the commands put together, and their errors
    options     options that many commands have, and the completion of job ids
    run, up, status, jobs, actors: the commands
    following   a job in the foreground: its output, its progress, Ctrl-C; views shows it
    machine     `fray up`; joining `fray worker`; leaving `fray down`; settings are remembered
    daemons     controllers and workers as processes of this machine
    connecting  which cluster is meant, and the connection to it
    output      what is printed, for people and for scripts
    -- pure --
    requests    arguments -> a job request          clusterfile  cluster.toml -> settings
    reports     reports -> tables and JSON          actorlist    jobs and names -> actors
    exits       how a job ended -> an exit code     jobids       the beginning of an id -> the id
    errors      an exception -> one line

Modules are imported when a command needs them, so that `fray --version` and completion are quick.
"""
