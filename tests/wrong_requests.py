"""The table of wrong requests in ``docs/wrong-requests.md``: walked, and written anew.

``python -m tests.wrong_requests --update`` writes the answers that fray gives today into the page.
Each row is one thing that somebody may write: Python, or a command line after ``$``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import fray
from fray.cli.main import main as command
from fray.cluster import (
    Entrypoint,
    EnvironmentConfig,
    JobGroupConfig,
    JobRequest,
    LocalCluster,
    ReservationConfig,
    ResourceConfig,
    TpuConfig,
    create_cluster,
    create_environment,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "wrong-requests.md"

_ROW = re.compile(r"^\| `(?P<request>.+?)` \| (?P<answer>.*) \|$")
_RANDOM = re.compile(r"(?<=-)[0-9a-f]{4,}\b|0x[0-9a-f]+|/tmp/wrong-\w+")


class Row(NamedTuple):
    """One row: where it stands in the page, what is written, what is answered."""

    line: int
    request: str
    answer: str


def rows(text: str) -> list[Row]:
    """All rows of the page.

    Args:
        text: The page.
    """
    found: list[Row] = []
    for at, line in enumerate(text.splitlines()):
        match = _ROW.match(line)
        if match is not None:
            request = match["request"].replace("\\|", "|")
            found.append(Row(at, request, match["answer"].replace("\\|", "|")))
    return found


class Desk:
    """Takes wrong requests, and says what fray answers. A context manager."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Desk:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="wrong-")))
        self._stack.enter_context(contextlib.chdir(folder))
        before = dict(os.environ)
        self._stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        for name in [name for name in os.environ if name.startswith("FRAY_")]:
            del os.environ[name]
        os.environ.update(
            FRAY_HOME=str(folder / "fray"), FRAY_USER="alice", COLUMNS="200", NO_COLOR="1"
        )
        (folder / "train.py").write_text("print('training')\n")
        self.cluster = self._stack.enter_context(LocalCluster())
        self._names = self._vocabulary()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _vocabulary(self) -> dict[str, Any]:
        @fray.actor
        class Model:
            def __init__(self, path: str = "") -> None:
                self.path = path

            def predict(self, xs: list[str]) -> list[str]:
                return xs

        def train() -> None: ...

        return {
            "fray": fray,
            "cluster": self.cluster,
            "Model": Model,
            "model": Model.remote(),
            "train": train,
            "Entrypoint": Entrypoint,
            "EnvironmentConfig": EnvironmentConfig,
            "JobGroupConfig": JobGroupConfig,
            "JobRequest": JobRequest,
            "ReservationConfig": ReservationConfig,
            "ResourceConfig": ResourceConfig,
            "TpuConfig": TpuConfig,
            "create_cluster": create_cluster,
            "create_environment": create_environment,
            "entrypoint": Entrypoint.from_callable(train),
        }

    def answer(self, request: str) -> str:
        """What fray says to a request.

        Args:
            request: As it stands in the page.

        Raises:
            AssertionError: It is taken for right.
        """
        said = self._type(request[2:]) if request.startswith("$ ") else self._evaluate(request)
        return _RANDOM.sub("…", said)

    def _evaluate(self, request: str) -> str:
        try:
            eval(request, dict(self._names))
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"
        raise AssertionError(f"{request} is taken for right")

    @staticmethod
    def _type(line: str) -> str:
        file, _, rest = line.partition(" > cluster.toml; ")
        if rest:  # a file is written first, as a shell would
            text = file.removeprefix("echo '").removesuffix("'")
            Path("cluster.toml").write_text(text + "\n")
            line = rest
        said = io.StringIO()
        code: object = 0
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                command(shlex.split(line)[1:])
            except SystemExit as ended:
                code = ended.code
        assert code not in (0, None), f"{line} is taken for right: {said.getvalue()}"
        return " ".join(said.getvalue().split())


def updated(text: str) -> str:
    """The page with the answers of today.

    Args:
        text: The page.

    Raises:
        AssertionError: A request is taken for right.
    """
    lines = text.splitlines()
    with Desk() as desk:
        for row in rows(text):
            answer = desk.answer(row.request).replace("|", "\\|").replace("\n", " ")
            request = row.request.replace("|", "\\|")
            lines[row.line] = f"| `{request}` | {answer} |"
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    """Entry point; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.wrong_requests", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the page anew")
    given = parser.parse_args(argv)
    text = updated(PAGE.read_text())
    if given.update:
        PAGE.write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
