from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cases, table
from benchmarks.suite import Run


def finished_run(**changes: object) -> Run:
    run = Run("calls", 3, 1.5, ["fray", "ray"], {"cores": "2"}, {"fray": "1.0", "ray": "2.0"})
    run.samples = {
        "fray": {"round_trip.calls_per_s": [6000.0, 8000.0, 7000.0]},
        "ray": {"round_trip.calls_per_s": [1000.0, 1000.0, 2000.0]},
    }
    for name, value in changes.items():
        setattr(run, name, value)
    return run


def row(page: str, title: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {title}, ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_page_shows_medians_with_their_noise_and_the_ratio_of_medians() -> None:
    cells = row(table.page([finished_run()]), "a. round trip")
    assert cells == [
        "a. round trip, calls/s ↑",
        "7,000 (6,000–8,000)",
        "1,000 (1,000–2,000)",
        "**7.00×** (3.50–8.00)",
    ]


def test_peer_that_failed_has_no_figures_and_is_named_below() -> None:
    run = finished_run(failures=["ray, round 1: exit status 1\nits traceback"])
    del run.samples["ray"]
    page = table.page([run])
    assert row(page, "a. round trip")[2:] == ["–", "–"]
    assert page.rstrip().endswith("- ray, round 1: exit status 1")


def test_case_that_nobody_reported_has_no_row() -> None:
    assert "2 drivers" not in table.page([finished_run()])


def test_peers_without_fray_are_shown_without_ratios() -> None:
    page = table.page([finished_run(peers=["ray"])])
    assert "÷" not in page
    assert row(page, "a. round trip")[1:] == ["1,000 (1,000–2,000)"]


def test_saved_run_reads_back_as_it_was(tmp_path: Path) -> None:
    run = finished_run(bystanders_percent=[0.0, 12.5])
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.123, "0.12"), (12.34, "12.3"), (141.6, "142"), (9e6, "9,000,000")],
)
def test_numbers_keep_the_digits_that_mean_something(value: float, shown: str) -> None:
    assert table.number(value) == shown


def test_every_figure_is_named_once_in_its_suite() -> None:
    for figures in cases.SUITES.values():
        keys = [(figure.case, figure.figure) for figure in figures]
        assert len(set(keys)) == len(keys)
