"""`python -m benchmarks calls|startup|tasks|table`: see the package's docstring."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks import cases, environments, suite, table


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in environments.PEERS]
    if unknown or not names:
        known = ", ".join(environments.PEERS)
        raise argparse.ArgumentTypeError(f"{text!r} is not a list out of {known}")
    return list(dict.fromkeys(names))


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("calls", "actor calls"),
        ("startup", "imports, first calls, launches"),
        ("tasks", "many small tasks"),
    ):
        command = commands.add_parser(name, help=f"measure {text}, side by side")
        command.add_argument("--peers", type=_peers, default=list(cases.PEERS[name]))
        command.add_argument("--rounds", type=_positive, default=3)
        command.add_argument("--measure-s", type=float, default=cases.MEASURE_S)
        command.add_argument("--renew", action="store_true", help="install the newest peers first")
        command.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
        command.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    again = commands.add_parser("table", help="print the page of saved runs again")
    again.add_argument("json", type=Path, nargs="+")
    return parser.parse_args()


def _stop(_number: int, _frame: object) -> None:
    sys.exit("stopped")  # an exception, so that what was started is ended on the way out


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _stop)
    if arguments.command == "table":
        print(table.page([suite.Run.load(path) for path in arguments.json]))
        return 0
    run = suite.run(
        arguments.command,
        arguments.peers,
        rounds=arguments.rounds,
        measure_s=arguments.measure_s,
        renew=arguments.renew,
    )
    page = table.page([run])
    print(page)
    if arguments.json is not None:
        run.save(arguments.json)
    if arguments.markdown is not None:
        arguments.markdown.write_text(page)
    return 1 if run.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
