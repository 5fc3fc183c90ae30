from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from fray.cli.app import app
from fray.cli.errors import UsageFailure
from fray.cli.requests import RunArguments, job_request, parse_gpus, parse_variables
from fray.cluster.devices import CpuConfig, GpuConfig, ResourceConfig, TpuConfig
from fray.cluster.types import JobRequest


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    for name in ("train.py", "project/src/train.py", "odd name!.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def ask(cwd: Path, *command: str, environ: Mapping[str, str] | None = None, **fields: Any):
    arguments = RunArguments(command=command, **fields)
    return job_request(arguments, cwd=cwd, environ=environ or {})


def command_of(request: JobRequest) -> list[str]:
    binary = request.entrypoint.binary_entrypoint
    assert binary is not None
    return [binary.command, *binary.args]


def test_script_runs_under_python_with_its_arguments(cwd: Path) -> None:
    request = ask(cwd, "train.py", "--lr", "3")
    assert command_of(request) == ["python", "train.py", "--lr", "3"]
    assert request.name == "train"
    assert request.environment is not None
    assert request.environment.workspace == str(cwd)


def test_request_says_what_a_job_request_can(cwd: Path) -> None:
    request = ask(
        cwd,
        "train.py",
        disk="10g",
        max_preemptions=-1,
        evictable=False,
        preferences=("rack=r1", "5:zone in a,b", "0.5 : !slow", "path=c:d"),
        queue_limit_s=90.0,
    )
    assert request.resources.disk == "10g"
    assert request.max_retries_preemption == -1
    assert request.evictable is False
    assert request.queue_limit_s == 90.0
    assert dict(request.resources.preferences) == {
        "rack=r1": 1.0,
        "zone in a,b": 5.0,
        "!slow": 0.5,
        "path=c:d": 1.0,
    }


@pytest.mark.parametrize("given", ["x:rack=r1", "0:rack=r1", "-1:rack=r1", "1e999:rack=r1"])
def test_weight_that_is_no_number_above_0_is_refused(cwd: Path, given: str) -> None:
    with pytest.raises(UsageFailure, match="--prefer is \\[WEIGHT:\\]RULE"):
        ask(cwd, "train.py", preferences=(given,))


def test_every_field_of_a_job_request_can_be_said(cwd: Path) -> None:
    said = {name.removeprefix("--").replace("-", "_") for name in option_names("run")}
    elsewhere = {
        "cpu": "cpus",
        "ram": "memory",
        "labels": "constraint",
        "preemptible": "constraint",
        "constraints": "constraint",
        "preferences": "prefer",
        "regions": "region",
        "zones": "zone",
        "replicas": "replicas",
        "device": "gpus",
        "max_retries_failure": "max_retries",
        "max_retries_preemption": "max_preemptions",
        "reservation_id": "reservation",
        "ports": "port",
        "detached": "detach",
        "time_limit_s": "time_limit",
        "queue_limit_s": "queue_limit",
        "environment": "package",
    }
    asked = {each.name for each in fields(JobRequest)} | {
        each.name for each in fields(ResourceConfig)
    }
    for name in asked - {"entrypoint", "resources"}:
        assert elsewhere.get(name, name) in said, f"nothing of `fray run` says {name}"


def option_names(command: str) -> set[str]:
    group: Any = typer.main.get_command(app)
    return {name for option in group.commands[command].params for name in option.opts}


def test_program_runs_as_it_is(cwd: Path) -> None:
    request = ask(cwd, "/bin/echo", "hi", is_program=True)
    assert command_of(request) == ["/bin/echo", "hi"]
    assert request.name == "echo"


def test_script_behind_two_dashes_is_a_program(cwd: Path) -> None:
    assert command_of(ask(cwd, "./train.py", is_program=True)) == ["./train.py"]


def test_script_is_seen_from_here_and_runs_in_the_project_folder(cwd: Path) -> None:
    request = ask(cwd, "project/src/train.py", working_dir=Path("project"))
    assert command_of(request) == ["python", "src/train.py"]


def test_script_may_be_named_from_the_project_folder(cwd: Path) -> None:
    request = ask(cwd, "src/train.py", working_dir=Path("project"))
    assert command_of(request) == ["python", "src/train.py"]


def test_script_outside_of_the_project_folder_keeps_its_whole_path(cwd: Path) -> None:
    request = ask(cwd, "train.py", working_dir=Path("project"))
    assert command_of(request) == ["python", str(cwd / "train.py")]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"command": ()}, "nothing to run"),
        ({"command": ("gone.py",)}, "no script 'gone.py'"),
        ({"command": ("train.py",), "working_dir": Path("gone")}, "--working-dir: there is no"),
        ({"command": ("train.py",), "gpus": "2", "tpu": "v6e-8"}, "exclude each other"),
        ({"command": ("train.py",), "tpu": "v5e-16"}, "did you mean 'v5litepod-16'"),
        ({"command": ("train.py",), "memory": "lots"}, "ram must be a number with a unit"),
        ({"command": ("train.py",), "name": "a b"}, "must not contain spaces"),
        ({"command": ("train.py",), "max_retries": -2}, "max_retries_failure"),
        ({"command": ("train.py",), "replicas": 0}, "replicas must be"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(cwd: Path, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageFailure, match=told) as raised:
        job_request(RunArguments(**fields), cwd=cwd, environ={})
    assert raised.value.exit_code == 2


def test_names_that_jobs_cannot_have_are_cleaned(cwd: Path) -> None:
    assert ask(cwd, "odd name!.py").name == "odd-name"
    assert ask(cwd, "...", is_program=True).name == "job"


def test_every_resource_arrives(cwd: Path) -> None:
    request = ask(
        cwd,
        "train.py",
        name="big",
        cpus=2.5,
        memory="8g",
        gpus="H100:8",
        replicas=3,
        max_retries=2,
        regions=["us-central1"],
        detach=True,
    )
    resources = request.resources
    assert (request.name, request.max_retries_failure, request.detached) == ("big", 2, True)
    assert (resources.cpu, resources.ram, resources.replicas) == (2.5, "8g", 3)
    assert resources.device == GpuConfig("H100", count=8)
    assert resources.regions == ["us-central1"]


def test_tpu_is_asked_for_by_its_type(cwd: Path) -> None:
    assert ask(cwd, "train.py", tpu="v5litepod-16").resources.device == TpuConfig("v5litepod-16")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2", GpuConfig("auto", count=2)),
        ("0.5", GpuConfig("auto", count=0.5)),
        (".5", GpuConfig("auto", count=0.5)),
        ("H100", GpuConfig("H100", count=1)),
        ("H100:8", GpuConfig("H100", count=8)),
    ],
)
def test_gpus_are_read(text: str, wanted: GpuConfig) -> None:
    assert parse_gpus(text) == wanted


@pytest.mark.parametrize("text", ["H100:", ":8", "H100:x", "1.5", "H100:-1", "", "H100:nan"])
def test_odd_gpus_are_refused(text: str) -> None:
    with pytest.raises(UsageFailure, match="--gpus"):
        parse_gpus(text)


def test_no_gpus_is_a_cpu(cwd: Path) -> None:
    assert ask(cwd, "train.py", gpus="0").resources.device == CpuConfig()


def test_variables_are_given_or_taken_from_here() -> None:
    environ = {"HERE": "1", "OTHER": "2"}
    assert parse_variables(["A=b=c", "HERE", "E="], environ) == {"A": "b=c", "HERE": "1", "E": ""}
    assert parse_variables(["A=1", "A=2"], {}) == {"A": "2"}


def test_variable_that_is_not_set_here_is_told() -> None:
    with pytest.raises(UsageFailure, match="not set here; give GONE=value"):
        parse_variables(["GONE"], {})


def test_value_of_a_wrong_variable_is_not_shown() -> None:
    with pytest.raises(UsageFailure) as raised:
        parse_variables(["=secret"], {})
    assert "secret" not in str(raised.value)


def test_variables_reach_the_job(cwd: Path) -> None:
    request = ask(cwd, "train.py", env=["A=1", "B"], environ={"B": "2"})
    assert request.environment is not None
    assert {"A": "1", "B": "2"}.items() <= request.environment.env_vars.items()


@given(st.text(max_size=12))
def test_gpus_are_read_or_refused_but_never_fail_otherwise(text: str) -> None:
    try:
        gpus = parse_gpus(text)
    except UsageFailure:
        return
    assert gpus.count > 0
    assert gpus.variant


@pytest.mark.parametrize("is_program", [False, True])
def test_a_folder_is_nothing_to_run(tmp_path: Path, is_program: bool) -> None:
    (tmp_path / "project").mkdir()
    for folder in (str(tmp_path), "project", "./project"):
        arguments = RunArguments(command=(folder,), is_program=is_program)
        with pytest.raises(UsageFailure, match=f"{folder} is a folder; give a script"):
            job_request(arguments, cwd=tmp_path, environ={})


def test_packages_and_extras_come_on_top_of_the_project(cwd: Path) -> None:
    request = ask(cwd, "train.py", packages=["einops>=0.8"], extras=["tpu"])
    asked = request.environment
    assert asked is not None
    assert (asked.workspace, asked.docker_image) == (str(cwd), None)
    assert (list(asked.pip_packages), list(asked.extras)) == (["einops>=0.8"], ["tpu"])
    with pytest.raises(UsageFailure, match="'einops >= >' in pip_packages is no requirement"):
        ask(cwd, "train.py", packages=["einops >= >"])


def test_an_image_takes_the_place_of_the_project(cwd: Path) -> None:
    request = ask(cwd, "in-the-image.py", "3", image="ghcr.io/me/train:1")
    assert command_of(request) == ["python", "in-the-image.py", "3"]
    assert request.environment is not None
    assert request.environment.docker_image == "ghcr.io/me/train:1"
    assert request.environment.workspace is None
    with pytest.raises(UsageFailure, match="cannot be the name of a Docker image"):
        ask(cwd, "train.py", image="--privileged")


@pytest.mark.parametrize(
    ("option", "more"),
    [
        ("--working-dir", {"working_dir": Path("project")}),
        ("--package", {"packages": ["x"]}),
        ("--extra", {"extras": ["x"]}),
    ],
)
def test_what_an_image_excludes_is_refused(cwd: Path, option: str, more: dict[str, Any]) -> None:
    with pytest.raises(UsageFailure, match=f"--image and {option} exclude each other"):
        ask(cwd, "train.py", image="i", **more)


def test_a_file_of_variables_is_read_and_the_command_line_has_the_last_word(cwd: Path) -> None:
    text = """# for the job

A=1
  B=two words # not a comment
HERE
C=
export D=exported
E="a \\"b\\"\\n#c"  # a comment
F='a \\n "b"'
G=it's
export=me
"""
    (cwd / "job.env").write_text(text, "utf-8-sig")
    given = {"env_file": Path("job.env"), "env": ["A=2"], "environ": {"HERE": "h"}}
    request = ask(cwd, "train.py", **given)
    assert request.environment is not None
    wanted = {"A": "2", "B": "two words # not a comment", "HERE": "h", "C": "", "D": "exported"}
    wanted |= {"E": 'a "b"\n#c', "F": 'a \\n "b"', "G": "it's", "export": "me"}
    assert wanted.items() <= request.environment.env_vars.items()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A=1\n=hunter2", "job.env, line 2: .*a name is missing"),
        ("GONE", "job.env, line 1: GONE: the variable is not set here; give GONE=value"),
        ("1A=hunter2", "job.env, line 1: '1A' cannot be the name of an environment variable"),
        ("A=1\nhunter2 x", "job.env, line 2: it is NAME=value, .*; this is neither"),
        ('\nA="hunter2', 'job.env, line 2: A: the value begins with " and does not end with it'),
        ("A='hunter2' x", "job.env, line 1: A: the value begins with ' and does not end with it"),
    ],
)
def test_a_wrong_line_of_a_file_of_variables_is_named_without_its_value(
    cwd: Path, text: str, told: str
) -> None:
    (cwd / "job.env").write_text(text)
    with pytest.raises(UsageFailure, match=told) as raised:
        ask(cwd, "train.py", env_file=Path("job.env"))
    assert "hunter2" not in str(raised.value)


def test_a_file_of_variables_that_cannot_be_read_is_told(cwd: Path) -> None:
    with pytest.raises(UsageFailure, match=r"none\.env cannot be read: No such file"):
        ask(cwd, "train.py", env_file=Path("none.env"))
    (cwd / "job.env").write_bytes(b"A=\xff")
    with pytest.raises(UsageFailure, match=r"job\.env cannot be read: it is not UTF-8"):
        ask(cwd, "train.py", env_file=Path("job.env"))


def test_ports_are_named(cwd: Path) -> None:
    assert ask(cwd, "train.py", ports=["web", "http-api"]).ports == ("web", "http-api")
    with pytest.raises(UsageFailure, match="a port's name consists of letters"):
        ask(cwd, "train.py", ports=["a b"])
