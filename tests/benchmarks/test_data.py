from __future__ import annotations

import json
import math
import random
from pathlib import Path

from benchmarks import data, data_report


def sample(
    peer: str, wall_s: float, check: tuple[int, int] = (10, 99), number: int = 0
) -> data_report.Sample:
    return data_report.Sample(peer, "group", 1.0, number, wall_s, 4.0, 64.0, 128.0, "1.0", check)


def row(page: str, title: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith(f"| {title}")]


def test_the_page_has_the_median_of_each_peer_and_its_memory() -> None:
    samples = [sample("zephyr", 3.0), sample("zephyr", 5.0, number=1), sample("dask", 9.0)]
    page = data_report.page(data_report.Results({"cores": "2"}, 2, samples))
    walls = row(page, "group, 1 GiB, wall time")
    assert walls[0] == "| group, 1 GiB, wall time, s ↓ | 4.00 (3.00–5.00) | 9.00 |"
    assert "| group, 1 GiB, largest process, MiB ↓ | 64.0 (64.0–64.0) | 64.0 |" in page
    assert walls[1] == "| group, 1 GiB, wall time | **0.33** (0.33–0.33, n=1) |"


def test_ratios_are_of_runs_of_the_same_round() -> None:
    pairs = [(1.0, 2.0), (10.0, 20.0), (100.0, 200.0)]
    samples = [sample("zephyr", ours, number=n) for n, (ours, _) in enumerate(pairs)]
    samples += [sample("dask", theirs, number=n) for n, (_, theirs) in enumerate(pairs)]
    page = data_report.page(data_report.Results({}, 2, samples))
    assert row(page, "group, 1 GiB, wall time")[1].endswith("| **0.50** (0.50–0.50, n=3) |")


def test_the_interval_has_the_mean_of_ratios_in_it_and_narrows_with_their_number() -> None:
    dice = random.Random(3)
    few = [math.exp(dice.gauss(-0.1, 0.2)) for _ in range(5)]
    many = few + [math.exp(dice.gauss(-0.1, 0.2)) for _ in range(95)]
    (low, middle, high), (lower, mean, upper) = (
        data_report.interval(few),
        data_report.interval(many),
    )
    assert low < middle < high
    assert lower < mean < upper
    assert upper - lower < (high - low) / 2
    assert lower < math.exp(-0.1) < upper


def test_those_that_take_long_are_in_every_other_round_and_all_begin_in_turn() -> None:
    peers = list(data.MODULES)
    rounds = [data.taking_part(peers, number) for number in range(4)]
    assert [set(each) for each in rounds[::2]] == [set(peers)] * 2
    assert [set(each) for each in rounds[1::2]] == [set(peers) - data.SLOW] * 2
    assert rounds[0][0] != rounds[2][0]
    assert rounds[1][0] != rounds[0][0]


def test_who_writes_something_else_than_the_others_is_a_failure() -> None:
    samples = [sample("zephyr", 1), sample("dask", 1), sample("ray-data", 1, check=(10, 98))]
    results = data_report.Results({}, 2, samples)
    data._compare(results)
    assert results.failures == ["ray-data, group: wrote (10, 98), others (10, 99)"]


def test_generated_files_depend_on_their_number_only(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(data, "FILE_BYTES", 1 << 14)
    for name, number in (("a", 1), ("b", 1), ("c", 2)):
        data.generate(tmp_path / name, number)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c
    assert {"id", "url", "text", "score"} == set(json.loads(a.splitlines()[0]))
