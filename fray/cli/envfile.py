"""Files of environment variables, as shells and dotenv have them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fray.cli.errors import UsageFailure

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_EXPORT = re.compile(r"export\s+(?=\S)")
_QUOTED = {
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?'),
    "'": re.compile(r"'([^']*)'\s*(?:#.*)?"),
}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse_env_file(text: str, name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Reads a file of variables: a line each, blank ones and ``#`` left out.

    A line is ``NAME=value``, or ``NAME`` for the value that it has here; ``export`` may stand
    before it. Quotes around a whole value are taken off: in double ones a backslash and an ``n``,
    ``r`` or ``t`` are a line's end, a return or a tab, and any other character after a backslash
    is itself. A value without quotes is taken as it stands.

    Args:
        text: What is in it.
        name: The file's, for errors.
        environ: The variables here.

    Raises:
        UsageFailure: A line has no name, or no value here, or a quote is not closed on it. Values
            are not in the message.
    """
    variables: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        told = line.lstrip()
        if not told or told.startswith("#"):
            continue
        try:
            key, value = _variable(told, environ)
        except UsageFailure as exc:
            raise UsageFailure(f"--env-file: {name}, line {number}: {exc}") from exc
        variables[key] = value
    return variables


def _variable(line: str, environ: Mapping[str, str]) -> tuple[str, str]:
    name, equals, value = _EXPORT.sub("", line, count=1).partition("=")
    if not name.strip():
        raise UsageFailure("it is NAME=value, or NAME for the value here; a name is missing")
    name = name.rstrip()
    if not _NAME.fullmatch(name):
        if not equals:  # it may be a value that has lost its name
            raise UsageFailure("it is NAME=value, or NAME for the value here; this is neither")
        raise UsageFailure(f"{name!r} cannot be the name of an environment variable")
    if equals:
        return name, _unquoted(name, value)
    if name not in environ:
        raise UsageFailure(f"{name}: the variable is not set here; give {name}=value")
    return name, environ[name]


def _unquoted(name: str, value: str) -> str:
    quote = value.strip()[:1]
    if quote not in _QUOTED or not quote:
        return value
    match = _QUOTED[quote].fullmatch(value.strip())
    if match is None:
        raise UsageFailure(
            f"{name}: the value begins with {quote} and does not end with it on the same line"
        )
    if quote == "'":
        return match[1]
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), match[1])


__all__ = ["parse_env_file"]
