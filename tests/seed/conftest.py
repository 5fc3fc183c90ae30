"""Makes the seed's examples and the stubs of what they import importable, here and in jobs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("tests.seed.scenarios")

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
PATHS = [str(HERE), str(HERE / "stubs")]
STUBBED = ("jax", "levanter", "marin", "examples_")


def _stubbed() -> list[str]:
    roots = tuple(f"{root}." for root in STUBBED)
    return [m for m in sys.modules if m in STUBBED or m.startswith((*roots, "examples_"))]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A real JAX may be installed, and another test may have imported it.
    real = {name: sys.modules.pop(name) for name in _stubbed()}
    for path in reversed(PATHS):
        monkeypatch.syspath_prepend(path)
    yield
    for name in _stubbed():
        del sys.modules[name]
    sys.modules.update(real)
