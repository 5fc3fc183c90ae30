"""Benchmarks of fray and its peers, side by side: the same work, on one machine, in one run.

Absolute figures do not carry from one machine to another; ratios do. That is why every peer runs
beside fray, in interleaved rounds, and why a figure taken elsewhere is never quoted here.

    python -m benchmarks calls --markdown benchmarks/RESULTS.md
    python -m benchmarks startup

needs nothing but the standard library: each peer lives in an environment of its own (`.bench/`).
Of fray alone, and in this checkout's environment:

    python -m benchmarks.start

And of data, zephyr beside its peers:

    python -m benchmarks.data --markdown benchmarks/DATA.md
"""
