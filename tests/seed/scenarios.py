"""What the seed's examples do on any cluster, and what must come of it.

Each runs on the cluster that the environment names, from the examples' own functions.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fray.cluster import JobInfo, JobStatus, current_cluster
from fray.errors import ActorNotFoundError
from fray.rpc import fray_resolver

if TYPE_CHECKING:
    from fray.ids import JobId

HERE = Path(__file__).resolve().parent

DEADLINE_S = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for something that sends no events: what other processes have done."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.01)


def printed(job_id: JobId, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a finished job has printed, as monitor() logs it."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="fray.job"):
        current_cluster().monitor(job_id)
    return sorted(r.getMessage() for r in caplog.records if r.name == "fray.job")


def nothing_runs() -> bool:
    return all(info.status.finished() for info in current_cluster().list_jobs())


# ---- 1. training


def training(tasks: int, num_slices: int, caplog: pytest.LogCaptureFixture) -> None:
    from examples_training import launch_training

    result = launch_training("baseline", num_slices=num_slices)
    assert isinstance(result, JobInfo)
    assert (result.name, result.status) == ("train-baseline", JobStatus.SUCCEEDED)
    assert [task.status for task in result.tasks] == [JobStatus.SUCCEEDED] * tasks
    hosts = tasks // num_slices
    expected = [
        line
        for task in range(tasks)
        for line in (
            f"[replica-{task}] Running on 4 devices",
            f"[replica-{task}] marin/baseline replica {task // hosts}: slope=3.000",
        )
    ]
    assert printed(result.job_id, caplog) == sorted(expected)


def training_that_fails() -> None:
    from examples_training import launch_training

    with pytest.raises(RuntimeError, match="FloatingPointError: loss is nan"):
        launch_training("diverges")
    info = current_cluster().list_jobs()[-1]
    assert (info.name, info.status) == ("train-diverges", JobStatus.FAILED)
    assert "loss is nan" in (info.error_message or "")
    assert any("loss is nan" in (task.error_message or "") for task in info.tasks)


# ---- 3. inference


def copy_of(completion: str) -> str:
    """Which server's model made a completion."""
    return completion.split("|")[1]


def prompt_of(completion: str) -> str:
    return completion.split("|")[3]


def inference(num_servers: int) -> None:
    from examples_inference import InferenceConfig, launch_inference_pool

    config = InferenceConfig("gs://llama", num_servers=num_servers, batch_size=2)
    pool = launch_inference_pool(config)
    try:
        _predicts_in_order_and_evenly(pool, num_servers)
        _streams_an_endless_iterator(pool, num_servers)
        _finds_servers_by_name(num_servers)
        _balances_calls_under_the_name_of_the_pool(num_servers)
    finally:
        pool.shutdown()
    infos = current_cluster().wait(pool.job_ids)
    assert [info.status for info in infos] == [JobStatus.STOPPED] * num_servers
    until(lambda: not fray_resolver().list_actors("inference"), "the servers' names are gone")
    assert nothing_runs()
    with pytest.raises(ActorNotFoundError):
        fray_resolver().lookup("inference_0")
    assert fray_resolver().lookup_all("inference_pool") == []


def _predicts_in_order_and_evenly(pool: Any, num_servers: int) -> None:
    prompts = [f"prompt {i}" for i in range(6 * num_servers)]
    results = pool.predict(prompts)
    assert [prompt_of(r) for r in results] == prompts
    assert all(r.startswith("gs://llama|") for r in results)
    assert list(Counter(map(copy_of, results)).values()) == [6] * num_servers


def _streams_an_endless_iterator(pool: Any, num_servers: int) -> None:
    taken = 0

    def endless() -> Iterator[list[str]]:
        nonlocal taken
        for i in itertools.count():
            taken = i + 1
            yield [f"{i} a", f"{i} b"]

    stream = pool.predict_async(endless())
    batches = list(itertools.islice(stream, 5 * num_servers))
    assert [prompt_of(b[0]) for b in batches] == [f"{i} a" for i in range(5 * num_servers)]
    assert all(len({copy_of(r) for r in batch}) == 1 for batch in batches)
    assert len({copy_of(batch[0]) for batch in batches}) == num_servers
    assert taken <= 5 * num_servers + 2 * num_servers
    stream.close()


def _finds_servers_by_name(num_servers: int) -> None:
    resolver = fray_resolver()
    for i in range(num_servers):
        handle = resolver.lookup(f"inference_{i}")
        assert handle.health_check() == {"status": "healthy", "devices": 4}
        assert handle.health_check.remote().result(timeout=DEADLINE_S)["devices"] == 4
    assert len(resolver.lookup_all("inference_?")) == num_servers
    assert len(resolver.list_actors("inference_pool")) == num_servers
    jobs = {endpoint.job_id for endpoint in resolver.list_actors("inference_pool")}
    assert jobs <= {info.job_id for info in current_cluster().list_jobs()}
    assert len(jobs) == num_servers


def _balances_calls_under_the_name_of_the_pool(num_servers: int) -> None:
    handle = fray_resolver().lookup("inference_pool")
    futures = [handle.predict.remote([f"{i}"]) for i in range(10 * num_servers)]
    copies = Counter(copy_of(future.result()[0]) for future in futures)
    assert len(copies) == num_servers
    assert min(copies.values()) >= 5


# ---- 4. reinforcement learning


def reinforcement_learning(directory: Path, num_rollout_workers: int) -> None:
    from examples_rl import RLConfig, RLJob
    from marin.rl import storage

    config = RLConfig(
        "gs://llama",
        num_rollout_workers=num_rollout_workers,
        rollout_storage_path=str(directory / "rollouts"),
        checkpoint_path=str(directory / "checkpoints"),
    )
    job = RLJob(config)
    result = job.run()
    assert result == {"status": JobStatus.SUCCEEDED, "run_id": job.run_id}
    resolver = fray_resolver()
    path = f"{config.checkpoint_path}/step-100"
    assert resolver.lookup("weight_coordinator").get_latest_checkpoint() == (100, path)
    loaded = [f"loaded-by-{i}" for i in range(num_rollout_workers)]
    until(lambda: set(loaded) < set(storage.names(path)), "everybody has the checkpoint")
    assert 0 < storage.read(config.checkpoint_path, "final")["policy"] < 2
    job.shutdown()
    coordinator, train, *rollouts = current_cluster().wait(job.job_ids)
    assert train.status is JobStatus.SUCCEEDED
    assert coordinator.status is JobStatus.STOPPED
    for rollout in rollouts:
        # The seed stops the coordinator first: a worker may find it gone before its own end.
        if rollout.status is not JobStatus.STOPPED:
            assert rollout.status is JobStatus.FAILED
            assert "ActorDied: actor curriculum died" in (rollout.error_message or "") or (
                "ActorDied: actor weight_coordinator died" in (rollout.error_message or "")
            )
    assert nothing_runs()
    until(lambda: not resolver.list_actors(), "the coordinator's names are gone")


def curriculum_counts_what_was_reported(directory: Path) -> None:
    """The same, with the rollout workers stopped first, so that nothing is on its way."""
    from examples_rl import RLConfig, RLJob
    from marin.rl import storage

    rollouts = str(directory / "rollouts")
    config = RLConfig("gs://llama", "v5litepod-4", "v5litepod-4", 1, rollouts, str(directory))
    job = RLJob(config)
    job.run()
    cluster = current_cluster()
    cluster.terminate(job.job_ids[2])
    cluster.wait(job.job_ids[2])
    stats = fray_resolver().lookup("curriculum").get_stats()
    assert stats["step"] == 0
    assert list(stats["lessons"]) == ["math"]
    written = len(storage.names(rollouts))
    assert stats["lessons"]["math"]["count"] - written in (0, 1)  # reported first, written then
    assert 0 < stats["lessons"]["math"]["total_reward"] <= stats["lessons"]["math"]["count"]
    job.shutdown()
    cluster.wait(job.job_ids)


# ---- as programs

SAID_AT_THE_END = {
    "training": "Training completed with status: succeeded\n",
    "inference": "What is the capital of France?']\n",
    "rl": "RL training completed: {'status': <JobStatus.SUCCEEDED: 'succeeded'>",
}


def data(directory: Path) -> None:
    """Transforms documents in shards: by what the surroundings suggest, and by fray's workers."""
    from examples_data import TransformConfig, run_transform, run_transform_on_fray

    from zephyr import load_jsonl

    (directory / "in").mkdir()
    for shard in range(3):
        documents = [{"id": n, "text": "Word " * n, "other": shard} for n in range(20)]
        lines = "".join(json.dumps(document) + "\n" for document in documents)
        (directory / "in" / f"{shard}.jsonl").write_text(lines)
    for run, least in ((run_transform, 11), (run_transform_on_fray, 0)):
        out = directory / run.__name__
        config = TransformConfig(f"{directory}/in/*.jsonl", str(out), max_parallelism=2)
        paths = run(config)
        assert paths == [f"{out}/output-{shard:05d}.jsonl.gz" for shard in range(3)]
        expected = [{"id": n, "text": "word " * n, "token_count": n} for n in range(least, 20)]
        assert [list(load_jsonl(path)) for path in paths] == [expected] * 3


def buckets_in(directory: Path) -> dict[str, str]:
    """Tells the stubs where ``gs://`` is."""
    return {"STUB_BUCKETS": str(directory / "buckets")}


def project_in(directory: Path) -> Path:
    """The examples as a project of their own, with the extra that they ask for: what hosts get."""
    root = directory / "project"
    if not root.exists():
        shutil.copytree(HERE, root, ignore=shutil.ignore_patterns("__pycache__", "test_*"))
        (root / "pyproject.toml").write_text(
            '[project]\nname = "examples"\nversion = "1"\n'
            "[project.optional-dependencies]\ntpu = []\n"
        )
    return root


def run_programs(
    names: Iterable[str], spec: str, directory: Path
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Runs examples at the same time, each as a program: nobody can import its functions."""
    root = project_in(directory)
    environ = {
        **os.environ,
        "FRAY_CLUSTER_SPEC": spec,
        "PYTHONPATH": os.pathsep.join([str(root / "stubs"), str(HERE.parents[1])]),
        **buckets_in(directory),
    }
    programs = {
        name: subprocess.Popen(
            [sys.executable, f"examples_{name}.py"],
            env=environ,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    }
    ended: dict[str, subprocess.CompletedProcess[str]] = {}
    for name, program in programs.items():
        out, err = program.communicate(timeout=2 * DEADLINE_S)
        ended[name] = subprocess.CompletedProcess(program.args, program.returncode, out, err)
    return ended
