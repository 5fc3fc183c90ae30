"""How processes talk: protocol, connections, hosted actors, supervision.

This room knows no cluster and nothing of the user's API. From the bottom up::

    payload, serialization, jsoncodec      values <-> bytes; error_envelope does it for exceptions
    hello, events, frames, encoder,        the wire protocol, without I/O
      decoder, lanes, transfers_*,
      receiver, connection
    leases, restart                        name table and restart rules, without clock or I/O
    clock, transport, threads              the seams: time, network, threads
    wsframes, wslink, wsdoor, wsgate,      the network in production
      websocket, auth
    tasks, signal, blocking                tasks have owners; waiting, on a loop and on a thread
    turns                                  long work on a loop that others use too
    calls, methods, codecs                 a call, from both of its ends
    cell_options, execution, mailbox,      a hosted actor: how its methods run, which call starts
      cell                                   when, its life
    failures, children, slots, crew,       the supervision tree
      supervisor
    peer, peers                            one connection per pair of processes
    process, loopthread                    one running fray process: the composition root
"""
