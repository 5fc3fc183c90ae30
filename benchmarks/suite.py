"""Runs the peers' scripts in interleaved rounds and collects their figures."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import environments, machine, processes

RUN_DEADLINE_S = 120.0
"""For one peer in one round; several times what the slowest takes."""

Samples = dict[str, dict[str, list[float]]]
"""Peer, then `case.figure`, then one value per round in which the peer reported it."""


@dataclass
class Run:
    """Everything that one invocation measured, before any statistics."""

    suite: str
    rounds: int
    measure_s: float
    peers: list[str]
    machine: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    samples: Samples = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    bystanders_percent: list[float] = field(default_factory=list)
    """Per peer and round: the share of the processors that programs of others took meanwhile."""

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))


def run(suite: str, peers: list[str], *, rounds: int, measure_s: float, renew: bool) -> Run:
    """Measure `peers` side by side.

    The rounds are interleaved, and each begins with another peer, so that a machine that grows
    slower during the run does so for all. A peer that fails is reported, and the others go on.

    Args:
        suite: A key of `cases.SUITES`.
        peers: Names out of `environments.PEERS`.
        rounds: How often each peer is measured; at least 1.
        measure_s: How long each case is measured in each round.
        renew: Install the newest releases of the peers first.
    """
    processes.adopt_orphans()
    pythons: dict[str, Path] = {}
    result = Run(suite, rounds, measure_s, peers, machine.facts())
    for peer in peers:
        try:
            pythons[peer] = environments.interpreter(peer, renew=renew)
        except processes.RunError as error:
            _fail(result, f"{peer} could not be installed: {error}")
    for number in range(rounds):
        shift = number % len(peers)
        for peer in peers[shift:] + peers[:shift]:
            if peer in pythons:
                _measure(result, peer, pythons[peer], number)
    return result


def _measure(result: Run, peer: str, python: Path, number: int) -> None:
    print(f"round {number + 1}/{result.rounds}: {peer} …", end=" ", file=sys.stderr, flush=True)
    before = time.monotonic()
    bystanders = machine.Bystanders()
    command = [
        *(python, "-m", f"benchmarks.peers.{peer}"),
        *("--suite", result.suite, "--measure-s", str(result.measure_s)),
        # Inside the script too, a little earlier than here: there it can say where it hangs.
        *("--deadline-s", str(RUN_DEADLINE_S - 10)),
    ]
    # A user's own site-packages, or an active environment, would mix with the peer's; and nobody's
    # libraries are to be compiled anew in every process.
    unwanted = ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    environment = {name: os.environ[name] for name in os.environ if name not in unwanted}
    environment |= {"PYTHONPATH": str(environments.ROOT), "PYTHONNOUSERSITE": "1"}
    try:
        # Short, because peers put Unix sockets below it; removed even if the peer is killed.
        with tempfile.TemporaryDirectory(prefix="b", ignore_cleanup_errors=True) as scratch:
            output = processes.run(
                command,
                deadline_s=RUN_DEADLINE_S,
                folder=environments.ROOT,
                environment=environment | {"TMPDIR": scratch},
            )
    except processes.RunError as error:
        _fail(result, f"{peer}, round {number + 1}: {error}")
        return
    for line in output.splitlines():
        if line.startswith("{"):
            _collect(result, peer, json.loads(line))
    result.bystanders_percent.append(round(bystanders.percent(), 1))
    print(f"{time.monotonic() - before:.0f} s", file=sys.stderr, flush=True)


def _collect(result: Run, peer: str, line: dict[str, object]) -> None:
    if "version" in line:
        result.versions[peer] = str(line["version"])
        return
    figures = result.samples.setdefault(peer, {})
    figures.setdefault(f"{line['case']}.{line['figure']}", []).append(float(str(line["value"])))


def _fail(result: Run, message: str) -> None:
    result.failures.append(message)
    print(message, file=sys.stderr, flush=True)
