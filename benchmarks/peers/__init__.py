"""One script per peer. Each does the same work and prints one JSON line per figure.

A script runs as `python -m benchmarks.peers.NAME` in an environment that holds this peer only, so
nothing here may import another peer, or anything outside the standard library and `measure`.
"""
