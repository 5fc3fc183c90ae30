"""Descriptions of job environments."""

import os

import pytest

from fray.cluster.environment import EnvironmentConfig, create_environment
from fray.errors import InvalidRequestError


def test_the_current_directory_is_the_workspace_unless_there_is_an_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert EnvironmentConfig.create().workspace == os.fspath(tmp_path)
    in_image = EnvironmentConfig.create(docker_image="python:3.11")
    assert (in_image.workspace, in_image.docker_image) == (None, "python:3.11")


def test_the_usual_variables_are_set_and_the_users_own_win(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    environment = create_environment(env_vars={"A": "1", "TOKENIZERS_PARALLELISM": "true"})
    assert environment.env_vars == {
        "HF_DATASETS_TRUST_REMOTE_CODE": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "HF_TOKEN": "secret",
        "A": "1",
    }


def test_create_takes_everything_and_copies_it():
    extras = ["tpu"]
    environment = EnvironmentConfig.create("/w", None, ["a>=1"], {}, extras)
    extras.append("eval")
    assert environment.extras == ["tpu"]
    assert environment.pip_packages == ["a>=1"]


@pytest.mark.parametrize("both", [{}, {"workspace": "/w", "docker_image": "i"}, {"workspace": ""}])
def test_exactly_one_of_workspace_and_image_is_given(both):
    with pytest.raises(ValueError, match="workspace"):
        EnvironmentConfig(**both)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"extras": "tpu"}, r"extras must be a list of strings: \['tpu'\]"),
        ({"pip_packages": [1]}, "pip_packages must be a list of non-empty strings"),
        ({"env_vars": {"A=B": "1"}}, "cannot be the name of an environment variable"),
        ({"env_vars": {"": "1"}}, "cannot be the name of an environment variable"),
        ({"env_vars": {"A": 1}}, "environment variable A must be a string without NUL, not int"),
        ({"env_vars": {"A": "x\0"}}, "environment variable A must be a string without NUL"),
    ],
)
def test_a_value_that_makes_no_sense_is_told_at_once(values, message):
    with pytest.raises(InvalidRequestError, match=message):
        EnvironmentConfig(workspace="/w", **values)


def test_the_value_of_a_variable_is_never_in_a_message():
    with pytest.raises(InvalidRequestError) as caught:
        EnvironmentConfig(workspace="/w", env_vars={"KEY": "hunter2\0"})
    assert "hunter2" not in str(caught.value)


def test_an_environment_is_frozen():
    environment = EnvironmentConfig(workspace="/w")
    with pytest.raises(AttributeError):
        environment.workspace = "/v"  # type: ignore[misc]
