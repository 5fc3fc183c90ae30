from __future__ import annotations

from pathlib import Path

import pytest

from fray.cli.clusterfile import LogSettings, WorkerSettings
from fray.cli.settings import Settings, load_settings, save_settings
from fray.cluster.home import ClusterHome
from fray.cluster.shelflimits import ShelfLimits


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings("0.0.0.0", 1234, None, 12.5),
        Settings(environments=ShelfLimits(3, 1 << 30)),
        Settings(logs=LogSettings("gs://bucket/logs", 1000, 2.5)),
        Settings(worker=WorkerSettings("box", {"cpu": 8, "gpu": {"H100": 8}})),
    ],
)
def test_settings_are_remembered(settings: Settings, tmp_path: Path) -> None:
    home = ClusterHome("lab", tmp_path).ensure()
    assert load_settings(home) is None
    save_settings(home, settings)
    assert load_settings(home) == settings


@pytest.mark.parametrize("content", ["", "[]", '{"host": "h"}', '{"host": 1, "worker": 3}'])
def test_settings_that_make_no_sense_are_forgotten(content: str, tmp_path: Path) -> None:
    home = ClusterHome("lab", tmp_path).ensure()
    (home.path / "up.json").write_text(content)
    assert load_settings(home) is None
