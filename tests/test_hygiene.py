"""The rules of this repository that a linter does not know, over every file that git tracks."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPAWNERS = ("fray/runtime/tasks.py", "fray/testing/")
"""Where tasks may be made that nothing owns yet: the owner itself, and the simulator's loop."""

MACHINE_PATH = re.compile(r"(?<![\w.~}])/(?:home|Users)/\w+/|(?<![\w.~}/-])/root/\.?\w")
REGISTRY = re.compile(
    r"\b(?:https?|file)://[^\s\"'`)>]*/(?:simple|packages)(?:[/\s\"'`)>]|$)", re.M
)
# Written so that it does not find itself.
UNFINISHED = re.compile(r"\b(?:[T]ODO|[F]IXME)\b")


def tracked() -> list[str]:
    # The owner of a checkout in a container is often somebody else.
    listing = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for name in tracked():
        try:
            yield name, (ROOT / name).read_text()
        except UnicodeDecodeError:  # a picture
            continue


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for name, text in texts():
        if name.endswith(".py") and PurePosixPath(name).parts[0] in folders:
            yield name, ast.parse(text, name)


def matches(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group().strip()}"
        for name, text in texts()
        for match in pattern.finditer(text)
    ]


def spawns_without_an_owner(tree: ast.AST) -> Iterator[int]:
    """Lines that make a task which no group or scope awaits."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            receiver, _, name = function.rpartition(".")
            on_a_loop = re.search(r"(^$|asyncio$|loop(\(\))?$)", receiver)
            if name in ("create_task", "ensure_future") and on_a_loop:
                yield node.lineno


def swallows_everything(tree: ast.AST) -> Iterator[int]:
    """Lines that catch any exception and do nothing about it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type is not None else "Exception"
            nothing = all(
                isinstance(each, ast.Pass)
                or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
                for each in node.body
            )
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            caught, nothing = ast.unparse(node), True
        else:
            continue
        if nothing and re.search(r"\b(Base)?Exception\b", caught):
            yield node.lineno


def waits_for_a_while(tree: ast.AST) -> Iterator[int]:
    """Lines of tests that sleep and hope, where they could wait for a condition.

    Sleeping between two looks at a condition is fine, and so is what a test has others run.
    """
    for test in ast.walk(tree):
        if not isinstance(test, ast.FunctionDef) or not test.name.startswith("test_"):
            continue
        todo: list[ast.AST] = list(test.body)
        while todo:
            node = todo.pop()
            if isinstance(node, ast.While | ast.For | ast.FunctionDef | ast.Lambda):
                continue
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep":
                yield node.lineno
            todo.extend(ast.iter_child_nodes(node))


def test_no_file_names_a_path_of_one_machine() -> None:
    here = re.compile(rf"(?<![\w.~}}/-]){re.escape(str(ROOT))}(?![\w-])")
    assert matches(MACHINE_PATH) + matches(here) == []


def test_no_file_names_a_package_registry() -> None:
    assert matches(REGISTRY) == []


def test_no_file_is_marked_as_unfinished() -> None:
    assert matches(UNFINISHED) == []


def test_every_task_has_an_owner() -> None:
    assert [
        f"{name}:{line}"
        for name, tree in modules("fray", "zephyr")
        if not name.startswith(SPAWNERS)
        for line in spawns_without_an_owner(tree)
    ] == []


def test_no_exception_is_swallowed() -> None:
    assert [
        f"{name}:{line}"
        for name, tree in modules("fray", "zephyr", "examples", "benchmarks", "tests")
        for line in swallows_everything(tree)
    ] == []


def test_no_lock_file_of_one_resolver_is_tracked() -> None:
    assert [name for name in tracked() if PurePosixPath(name).name == "uv.lock"] == []


def test_no_test_sleeps_where_it_could_wait_for_a_condition() -> None:
    assert [
        f"{name}:{line}" for name, tree in modules("tests") for line in waits_for_a_while(tree)
    ] == []


def test_every_test_that_the_documentation_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/testing.md").read_text())
    assert named
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"def {name}\(", (ROOT / path).read_text())
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def test_x():\n time.sleep(1)\n assert f()", True),
        ("def test_x():\n with g():\n  time.sleep(0.1)", True),
        ("def test_x():\n while not f():\n  time.sleep(0.01)", False),
        ("def test_x():\n def job():\n  time.sleep(9)\n run(job)", False),
    ],
)
def test_sleep_rule_tells_hoping_from_waiting(code: str, found: bool) -> None:
    assert bool(list(waits_for_a_while(ast.parse(code)))) is found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("asyncio.create_task(f())", True),
        ("asyncio.ensure_future(f())", True),
        ("create_task(f())", True),
        ("self._loop.create_task(f())", True),
        ("asyncio.get_running_loop().create_task(f())", True),
        ("group.create_task(f())", False),
        ("self.scope.spawn(f(), name='x')", False),
    ],
)
def test_task_rule_tells_loops_from_groups(code: str, found: bool) -> None:
    assert bool(list(spawns_without_an_owner(ast.parse(code)))) is found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("try: f()\nexcept Exception: pass", True),
        ("try: f()\nexcept: ...", True),
        ("try: f()\nexcept (OSError, BaseException): 'quiet'", True),
        ("with contextlib.suppress(Exception): f()", True),
        ("with suppress(OSError): f()", False),
        ("try: f()\nexcept OSError: pass", False),
        ("try: f()\nexcept Exception as error: log(error)", False),
    ],
)
def test_exception_rule_tells_everything_from_something(code: str, found: bool) -> None:
    assert bool(list(swallows_everything(ast.parse(code)))) is found


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (REGISTRY, "https://mirror.example/pypi/SIMPLE/", True),
        (REGISTRY, "file:///srv/SIMPLE", True),
        (REGISTRY, "https://example.org/simple-guide", False),
        (MACHINE_PATH, "cd /HOME/me/fray", True),
        (MACHINE_PATH, "~/home/x/", False),
        (MACHINE_PATH, "a project's root/src", False),
    ],
)
def test_patterns_find_what_they_are_for(pattern: re.Pattern[str], text: str, found: bool) -> None:
    # In capitals above, so that this file does not break the rules itself.
    assert bool(pattern.search(text.lower())) is found
