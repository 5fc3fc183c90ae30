"""What a job's environment has to have beyond its agent's: read from its project, and named.

The name (a digest) covers what decides about packages and nothing else, so that a change of code
alone finds the environment that is there. Where a project's packages come from its own files (path
dependencies, built metadata), all of its files decide.

Which file counts: ``uv.lock``; else a ``requirements.txt`` with hashes; else the dependencies in
``pyproject.toml``; else ``requirements.txt``. Pure but for reading these files.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias, cast

from fray.errors import InvalidRequestError

_PATH = re.compile(r"[./~]|file:")
_REMOTE = re.compile(r"(git\+)?(https?|ssh)://")
_NAMED_PATH = re.compile(r"[^@#\s]+\s*@\s*(file:|[./~])")
_INCLUDE = re.compile(
    r"(?m)^\s*(-[rce]\b|--(requirement|constraint|editable)\b|[./~]|[^#@\n]+@\s*file:)"
)

_Shape: TypeAlias = "tuple[tuple[str, ...], Callable[[Any], bool], str]"
"""Where something is in a file, of which kind it has to be, and what that is called."""


class Source(StrEnum):
    """What says which packages a project needs."""

    NOTHING = "nothing"
    LOCK = "uv.lock"
    HASHES = "requirements.txt with hashes"
    PROJECT = "pyproject.toml"
    REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True, slots=True)
class Needs:
    """What is to be installed.

    Attributes:
        source: What says so, of the project.
        extras: Of the project, sorted.
        pip_packages: Added to it, sorted.
        requirements: What the project needs directly, extras included; of a lock or of hashes
            nothing, since what is there cannot be said to be what they want.
        of_files: Whether the project's own files are among what is installed.
        text: All that decides, as text.
    """

    source: Source
    extras: tuple[str, ...]
    pip_packages: tuple[str, ...]
    requirements: tuple[str, ...]
    of_files: bool
    text: str

    @property
    def is_nothing(self) -> bool:
        """Whether nothing at all is asked for."""
        return self.source is Source.NOTHING and not self.pip_packages

    @property
    def is_fixed(self) -> bool:
        """Whether exact packages are asked for, and not any that would do."""
        return self.source in (Source.LOCK, Source.HASHES)

    def key(self, *facts: str) -> str:
        """What an environment with all this is called.

        Args:
            facts: What decides besides: the interpreter, indexes, the project's files.
        """
        return hashlib.sha256(json.dumps([self.text, *facts]).encode()).hexdigest()[:32]


def needs_of(folder: Path | None, extras: Sequence[str], pip_packages: Sequence[str]) -> Needs:
    """What a job needs.

    Args:
        folder: The project; None where the job has none.
        extras: Of the project.
        pip_packages: Further requirements.

    Raises:
        InvalidRequestError: Extras are asked for that the project cannot have, a package is no
            requirement, or a file of the project cannot be read.
    """
    for package in pip_packages:
        check_package(package)
    project, source = _project_of(folder), Source.NOTHING
    pinned = _read(folder, "requirements.txt") if folder is not None else ""
    lock = _read(folder, "uv.lock") if folder is not None else ""
    declared: Mapping[str, Any] = project.get("project", {})
    if lock and declared:
        source = Source.LOCK
    elif "--hash=" in pinned and not extras:
        source = Source.HASHES
    elif declared:
        source = Source.PROJECT
    elif pinned:
        source = Source.REQUIREMENTS
    _check_extras(extras, source, declared)
    requirements = _direct(source, declared, extras, pinned)
    if (source is Source.PROJECT and not requirements and not _is_dynamic(declared)) or (
        source is Source.LOCK and not _locks_anything(lock)
    ):
        source = Source.NOTHING
    text = {
        Source.NOTHING: "",
        Source.LOCK: lock,
        Source.HASHES: pinned,
        Source.PROJECT: "",
        Source.REQUIREMENTS: pinned,
    }[source]
    of_files = _is_of_files(source, project, lock, pinned) or any(map(is_path, pip_packages))
    decides: list[object] = [
        source.value,
        text,
        sorted(set(extras)),
        sorted(set(pip_packages)),
        _relevant(project) if source is not Source.NOTHING or pip_packages else {},
    ]
    return Needs(
        source=source,
        extras=tuple(sorted(set(extras))),
        pip_packages=tuple(sorted(set(pip_packages))),
        requirements=(*requirements, *pip_packages),
        of_files=of_files,
        text=json.dumps(decides, sort_keys=True, default=str),
    )


def is_path(package: str) -> bool:
    """Whether a requirement is something of the project's own files, such as ``./libs/tools``.

    Args:
        package: A requirement.
    """
    return bool(_PATH.match(package) or _NAMED_PATH.match(package))


def check_package(package: str) -> None:
    """Refuses what is no requirement: it might be an option, or a command.

    Args:
        package: As in ``numpy>=2``, ``git+https://…`` or ``./libs/tools``.

    Raises:
        InvalidRequestError: It is none.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    if package.isprintable() and (is_path(package) or _REMOTE.match(package)):
        return
    try:
        Requirement(package)
    except InvalidRequirement as exc:
        first = str(exc).partition("\n")[0]
        raise InvalidRequestError(
            f"{package!r} in pip_packages is no requirement ({first}); write it as in "
            "'numpy>=2', 'git+https://…' or './folder'"
        ) from None


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(f"{name} of the workspace cannot be read: {exc}") from exc


def _project_of(folder: Path | None) -> Mapping[str, Any]:
    text = _read(folder, "pyproject.toml") if folder is not None else ""
    return _loaded("pyproject.toml", text, _PROJECT_SHAPES)


def _loaded(name: str, text: str, shapes: Sequence[_Shape]) -> Mapping[str, Any]:
    """A file of the project, of which all that is looked at here is of the kind that it has to be.

    Raises:
        InvalidRequestError: It is not.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise InvalidRequestError(f"{name} of the workspace makes no sense: {exc}") from exc
    for path, fits, what in shapes:  # what holds something comes before that
        value: Any = document
        for key in path:
            value = value.get(key)
            if value is None:
                break
        if value is not None and not fits(value):
            raise InvalidRequestError(
                f"{name} of the workspace makes no sense: {'.'.join(path)} is to be {what}"
            )
    return document


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, str)
        for each in value  # pyright: ignore[reportUnknownVariableType]
    )


def _are_named_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_are_texts, value.values()))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]


def _are_packages(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(each.get("source", {}), dict)  # pyright: ignore[reportUnknownMemberType]
        for each in value  # pyright: ignore[reportUnknownVariableType]
    )


_PROJECT_SHAPES: Sequence[_Shape] = (
    (("project",), _is_table, "a table"),
    (("project", "dependencies"), _are_texts, "a list of strings"),
    (("project", "dynamic"), _are_texts, "a list of strings"),
    (("project", "optional-dependencies"), _are_named_texts, "a table of lists of strings"),
    (("tool",), _is_table, "a table"),
    (("tool", "uv"), _is_table, "a table"),
)

_LOCK_SHAPES: Sequence[_Shape] = ((("package",), _are_packages, "a list of tables"),)


def _check_extras(extras: Sequence[str], source: Source, declared: Mapping[str, Any]) -> None:
    if not extras:
        return
    if source not in (Source.LOCK, Source.PROJECT):
        raise InvalidRequestError(
            f"the extras {', '.join(extras)} are asked for, but the workspace has no [project] in "
            "a pyproject.toml that could define them; pip_packages adds packages by name"
        )
    known = {_name(extra) for extra in declared.get("optional-dependencies", {})}
    unknown = [extra for extra in extras if _name(extra) not in known]
    if unknown and "optional-dependencies" not in declared.get("dynamic", []):
        has = ", ".join(sorted(known)) or "none"
        raise InvalidRequestError(
            f"the project {declared.get('name', '')} has no extra {', '.join(unknown)}; it has "
            f"{has}"
        )


def _direct(
    source: Source, declared: Mapping[str, Any], extras: Sequence[str], pinned: str
) -> tuple[str, ...]:
    if source is Source.PROJECT:
        optional = {_name(k): v for k, v in declared.get("optional-dependencies", {}).items()}
        found = list(declared.get("dependencies", []))
        for extra in extras:
            found += optional.get(_name(extra), [])
        return tuple(found)
    if source is Source.REQUIREMENTS:
        lines = (line.partition(" #")[0].strip() for line in pinned.splitlines())
        return tuple(line for line in lines if line and not line.startswith("#"))
    return ()


def _is_dynamic(declared: Mapping[str, Any]) -> bool:
    return bool({"dependencies", "optional-dependencies"} & set(declared.get("dynamic", [])))


def _packages(lock: str) -> list[Mapping[str, Any]]:
    document = _loaded("uv.lock", lock, _LOCK_SHAPES)
    return cast("list[Mapping[str, Any]]", document.get("package", []))


def _is_itself(package: Mapping[str, Any]) -> bool:
    source = package.get("source", {})
    return "." in (source.get("editable"), source.get("virtual"), source.get("directory"))


def _locks_anything(lock: str) -> bool:
    return any(not _is_itself(package) for package in _packages(lock))


def _is_of_files(source: Source, project: Mapping[str, Any], lock: str, pinned: str) -> bool:
    match source:
        case Source.LOCK:
            others = [p.get("source", {}) for p in _packages(lock) if not _is_itself(p)]
            here = ("path", "directory", "editable", "virtual")
            return any(
                any(key in other for key in here)
                or ("registry" in other and "://" not in str(other["registry"]))
                for other in others
            )
        case Source.PROJECT:
            sources = project.get("tool", {}).get("uv", {}).get("sources", {})
            return _is_dynamic(project["project"]) or "path" in json.dumps(sources, default=str)
        case Source.HASHES | Source.REQUIREMENTS:
            return bool(_INCLUDE.search(pinned))
        case Source.NOTHING:
            return False


def _relevant(project: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a pyproject.toml what decides about packages: not its version, nor how it is linted."""
    declared = project.get("project", {})
    kept = ("name", "dependencies", "optional-dependencies", "requires-python", "dynamic")
    return {
        "project": {key: declared[key] for key in kept if key in declared},
        "groups": project.get("dependency-groups", {}),
        "uv": project.get("tool", {}).get("uv", {}),
        "build": project.get("build-system", {}) if _is_dynamic(declared) else {},
    }


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


__all__ = ["Needs", "Source", "check_package", "is_path", "needs_of"]
