"""The environment of the agent itself, over which those of jobs are laid.

A job's environment is a virtual environment of the agent's own interpreter, with the agent's
packages *behind* its own: what the job asks for comes first, and what it does not, fray and what
fray needs above all, is the agent's. So fray is there in the agent's version, from a source tree as
from an installed distribution, and nothing has to be fetched for it.
"""

from __future__ import annotations

import importlib.metadata as metadata
import os
import site
import sys
from collections.abc import Sequence
from pathlib import Path

from fray import version

DISTRIBUTION = "fray-actors"

LAYER_FILE = "zz_fray_agent.pth"
"""The last one to be read, in the alphabet, so that the agent's packages come behind all others."""


def satisfies(requirements: Sequence[str]) -> bool:
    """Whether the agent's environment has all of these already, their extras included.

    Args:
        requirements: As in a ``pyproject.toml``.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        parsed = [Requirement(text) for text in requirements]
    except InvalidRequirement:  # an option, a path: only an installer knows
        return False
    return all(_has(one, frozenset()) for one in parsed)


def _has(requirement: object, seen: frozenset[str]) -> bool:
    from packaging.requirements import Requirement

    assert isinstance(requirement, Requirement)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return True
    if requirement.url is not None:
        return False
    if requirement.name.replace("_", "-").lower() == DISTRIBUTION and not requirement.extras:
        return requirement.specifier.contains(version.__version__, prereleases=True)
    try:
        found = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    if not requirement.specifier.contains(found.version, prereleases=True):
        return False
    key = f"{requirement.name}[{','.join(sorted(requirement.extras))}]"
    if key in seen:
        return True
    return all(
        _has(needed, seen | {key})
        for text in (found.requires or ())
        for extra in requirement.extras
        if (needed := _of_extra(Requirement(text), extra)) is not None
    )


def _of_extra(requirement: object, extra: str) -> object | None:
    """A requirement that comes with an extra alone, without its condition; None for another."""
    from packaging.requirements import Requirement

    assert isinstance(requirement, Requirement)
    marker = requirement.marker
    if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
        return None
    bare = Requirement(str(requirement))
    bare.marker = None
    return bare


def constraints() -> list[str]:
    """What fray needs of packages that a job's environment may have, too."""
    try:
        needed = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # run from a source tree that nobody has installed
        return []
    return [text for text in needed if "extra ==" not in text]


def layer_paths() -> list[str]:
    """Where the agent's packages are, in order."""
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if _has_user_site() else [])]
    found = [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]
    source = str(Path(version.__file__).resolve().parent.parent)
    if source not in found:
        found.append(source)
    return found


def _has_user_site() -> bool:
    return bool(site.ENABLE_USER_SITE)


def layer_text() -> str:
    """The content of `LAYER_FILE`: what is installed there by path files is found, too."""
    return "".join(f"import site; site.addsitedir({path!r})\n" for path in layer_paths())


def interpreter() -> str:
    """What tells interpreters apart whose environments are not interchangeable."""
    return f"{sys.implementation.cache_tag} {sys.version} {sys.base_prefix} {sys.executable}"


__all__ = [
    "DISTRIBUTION",
    "LAYER_FILE",
    "constraints",
    "interpreter",
    "layer_paths",
    "layer_text",
    "satisfies",
]
