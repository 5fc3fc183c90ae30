"""Loads the plugin where fray is only on the path, not installed, and has no entry points."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

PLUGIN = "fray.testing.plugin"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    if not pluginmanager.has_plugin("fray") and not pluginmanager.has_plugin(PLUGIN):
        pluginmanager.import_plugin(PLUGIN)
