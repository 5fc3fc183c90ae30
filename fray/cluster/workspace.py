"""Which files of a project folder travel with a job: what git would show, and nothing outside.

The rules are git's (`pathspec` reads the patterns): ``.gitignore`` files, nested ones too, those of
the enclosing repository above the folder, and its ``.git/info/exclude``. A ``.frayignore`` says
more in the same words and has the last word in its folder. Never taken: version control's own
files, virtual environments, and what Python compiles.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.resources import format_bytes
from fray.errors import InvalidRequestError
from fray.wording import counted

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

NEVER = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__"})
"""Names that are never taken, whatever a rule says."""

IGNORE_FILES = (".gitignore", ".frayignore")
"""The later ones win."""

SIZE_BYTES_MAX = 100 << 20
"""All files together, uncompressed, unless ``FRAY_BUNDLE_SIZE_MAX`` says otherwise."""

FILES_MAX = 20_000

SIZE_VARIABLE = "FRAY_BUNDLE_SIZE_MAX"

_TOLD_MAX = 5


@dataclass(frozen=True, slots=True)
class WorkspaceFile:
    """A file, or a symbolic link, of a project folder.

    Attributes:
        path: Relative to the folder, with ``/``.
        mode: Its permission bits.
        size_bytes: Of its content; 0 of a link.
        mtime_ns: When it was changed last, in nanoseconds since 1970.
        link: What a link points to, relative to where it is; empty of a file.
    """

    path: str
    mode: int
    size_bytes: int
    mtime_ns: int
    link: str = ""


def workspace_files(root: Path, *, size_bytes_max: int = SIZE_BYTES_MAX) -> list[WorkspaceFile]:
    """All files of a project folder that travel, sorted by path.

    Args:
        root: The folder.
        size_bytes_max: How much they may be together, in bytes.

    Raises:
        InvalidRequestError: They are too many or too large, or a link points out of the folder.
        OSError: Something cannot be read.
    """
    root = root.resolve()
    files = sorted(_walk(root, root, "", _rules_above(root)), key=lambda file: file.path)
    _check_amount(root, files, size_bytes_max)
    return files


class _Rules:
    """The patterns of one folder, for paths below it."""

    def __init__(self, folder: Path, spec: GitIgnoreSpec) -> None:
        self.folder = folder
        self.spec = spec


def _walk(
    root: Path, folder: Path, prefix: str, rules: Sequence[_Rules]
) -> Iterator[WorkspaceFile]:
    """What travels of one folder and those in it.

    An ignored folder is not looked into: as in git,
    nothing in it can be taken back.
    """
    own = _rules_of(folder, IGNORE_FILES)
    rules = [own, *rules] if own is not None else rules
    with os.scandir(folder) as entries:
        listed = list(entries)
    for entry in listed:
        if entry.name in NEVER:
            continue
        path = prefix + entry.name
        if entry.is_symlink():
            if not _ignored(entry, rules, is_folder=False):
                yield _link(root, folder, entry, path)
        elif entry.is_dir():
            if not _ignored(entry, rules, is_folder=True) and not _is_venv(entry):
                yield from _walk(root, Path(entry.path), f"{path}/", rules)
        elif entry.is_file() and not _ignored(entry, rules, is_folder=False):
            info = entry.stat()
            mode = stat.S_IMODE(info.st_mode) & 0o777
            yield WorkspaceFile(path, mode, info.st_size, info.st_mtime_ns)


def _ignored(entry: os.DirEntry[str], rules: Sequence[_Rules], *, is_folder: bool) -> bool:
    """Whether a path is left out: the deepest folder with a word on it decides."""
    for one in rules:
        relative = os.path.relpath(entry.path, one.folder)
        word = one.spec.check_file(f"{relative}/" if is_folder else relative).include
        if word is not None:
            return word
    return False


def _is_venv(entry: os.DirEntry[str]) -> bool:
    return os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))


def _link(root: Path, folder: Path, entry: os.DirEntry[str], path: str) -> WorkspaceFile:
    told = os.readlink(entry.path)
    target = Path(os.path.normpath(folder / told))
    if not target.is_relative_to(root) or not Path(entry.path).resolve().is_relative_to(root):
        raise InvalidRequestError(
            f"{path} in the workspace {root} is a symbolic link to {told}, outside of it, where "
            f"hosts cannot follow: copy what it points to, or leave it out by a line /{path} in "
            f"{root / '.frayignore'}"
        )
    mtime_ns = entry.stat(follow_symlinks=False).st_mtime_ns
    return WorkspaceFile(path, 0o777, 0, mtime_ns, os.path.relpath(target, folder))


def _rules_of(folder: Path, names: Sequence[str]) -> _Rules | None:
    lines: list[str] = []
    for name in names:
        try:
            lines += (folder / name).read_text("utf-8", "surrogateescape").splitlines()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            continue
    if not lines:
        return None
    from pathspec import GitIgnoreSpec  # 70 ms; most processes bundle nothing

    return _Rules(folder, GitIgnoreSpec.from_lines(lines))


def _rules_above(root: Path) -> list[_Rules]:
    """Those of the repository that the folder is in, the deepest first."""
    top = next((p for p in (root, *root.parents) if (p / ".git").exists()), None)
    if top is None:
        return []
    between = [p for p in root.parents if p.is_relative_to(top)]
    found = [_rules_of(folder, (".gitignore",)) for folder in between]
    exclude = _rules_of(top, (".git/info/exclude",))
    return [rules for rules in (*found, exclude) if rules is not None]


def _check_amount(root: Path, files: Sequence[WorkspaceFile], size_bytes_max: int) -> None:
    total = sum(file.size_bytes for file in files)
    if total <= size_bytes_max and len(files) <= FILES_MAX:
        return
    largest = sorted(files, key=lambda file: (-file.size_bytes, file.path))[:_TOLD_MAX]
    told = ", ".join(f"{file.path} ({format_bytes(file.size_bytes)})" for file in largest)
    what = f"{format_bytes(total)} in {counted(len(files), 'file')}"
    if total > size_bytes_max:
        raise InvalidRequestError(
            f"the workspace {root} is too large to be sent to hosts: {what}, at most "
            f"{format_bytes(size_bytes_max)}. The largest: {told}. Leave data out by lines in "
            f"{root / '.frayignore'} (as in a .gitignore), or raise the limit by {SIZE_VARIABLE}, "
            "as in 500m"
        )
    raise InvalidRequestError(
        f"the workspace {root} has too many files to be sent to hosts: {what}, at most {FILES_MAX} "
        f"files. Most are in {_fullest(files)}. Leave folders out by lines in "
        f"{root / '.frayignore'} (as in a .gitignore)"
    )


def _fullest(files: Sequence[WorkspaceFile]) -> str:
    counts: dict[str, int] = {}
    for file in files:
        folder = file.path.rpartition("/")[0] or "."
        counts[folder] = counts.get(folder, 0) + 1
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TOLD_MAX]
    return ", ".join(f"{folder} ({count})" for folder, count in most)


__all__ = [
    "FILES_MAX",
    "IGNORE_FILES",
    "NEVER",
    "SIZE_BYTES_MAX",
    "SIZE_VARIABLE",
    "WorkspaceFile",
    "workspace_files",
]
