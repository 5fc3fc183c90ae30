"""How processes talk: protocol, connections, hosted actors, supervision.

This room knows no cluster and nothing of the user's API. From the bottom up::

    payload, serialization, jsoncodec     values <-> bytes
    events, frames, connection            the wire protocol, without I/O
    leases, restart                       name table and restart rules, without clock or I/O
    clock, transport, threads             the seams: time, network, threads
    websocket                             the network in production
    tasks                                 every background task has an owner
    calls, cell                           a call; a hosted actor
    peer, peers                           one connection per pair of processes
    process                               one running fray process: the composition root
"""
