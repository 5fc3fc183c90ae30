"""What a job's processes find around them: code, packages and environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fray.errors import InvalidRequestError

DEFAULT_ENV_VARS = {
    "HF_DATASETS_TRUST_REMOTE_CODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

INHERITED_ENV_VARS = ("HF_TOKEN", "WANDB_API_KEY")
"""Taken from the environment of whoever makes the description, where they are set."""


def _no_names() -> list[str]:
    return []


def _no_vars() -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class EnvironmentConfig:
    """Where a job's code and packages come from: exactly one of a project folder or an image.

    Attributes:
        workspace: A project folder, bundled and installed with uv.
        docker_image: An image to run in.
        pip_packages: Packages to add, as requirement strings.
        env_vars: Environment variables to set; their values are treated as secrets.
        extras: Extras of the project to install.

    Raises:
        InvalidRequestError: Neither or both of workspace and docker_image are given, or a
            value has the wrong type.
    """

    workspace: str | None = None
    docker_image: str | None = None
    pip_packages: Sequence[str] = field(default_factory=_no_names)
    env_vars: Mapping[str, str] = field(default_factory=_no_vars)
    extras: Sequence[str] = field(default_factory=_no_names)

    def __post_init__(self) -> None:
        if self.workspace and self.docker_image:
            raise InvalidRequestError(
                "an environment has a workspace or a docker_image, not both: "
                f"{self.workspace!r} and {self.docker_image!r}"
            )
        if not self.workspace and not self.docker_image:
            raise InvalidRequestError(
                "an environment needs a workspace or a docker_image; "
                "EnvironmentConfig.create() takes the current directory"
            )
        _check_strings(self.pip_packages, "pip_packages")
        _check_strings(self.extras, "extras")
        _check_mapping(self.env_vars)
        for name, value in self.env_vars.items():
            _check_variable(name, value)

    @classmethod
    def create(
        cls,
        workspace: str | None = None,
        docker_image: str | None = None,
        pip_packages: Sequence[str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        extras: Sequence[str] | None = None,
    ) -> EnvironmentConfig:
        """Makes a description with the usual defaults.

        Args:
            workspace: A project folder; by default the current directory, unless there is an
                image.
            docker_image: An image to run in, in place of a workspace.
            pip_packages: Packages to add.
            env_vars: Environment variables. They come on top of
                ``HF_DATASETS_TRUST_REMOTE_CODE=1``, ``TOKENIZERS_PARALLELISM=false`` and, where
                they are set here, ``HF_TOKEN`` and ``WANDB_API_KEY``.
            extras: Extras of the project to install.

        Raises:
            InvalidRequestError: Both a workspace and an image are given, or a value has the
                wrong type.
        """
        if workspace is None and docker_image is None:
            workspace = os.getcwd()
        _check_mapping(env_vars or {})
        inherited = {name: os.environ[name] for name in INHERITED_ENV_VARS if name in os.environ}
        return cls(
            workspace=workspace,
            docker_image=docker_image,
            pip_packages=_listed(pip_packages, "pip_packages"),
            env_vars={**DEFAULT_ENV_VARS, **inherited, **(env_vars or {})},
            extras=_listed(extras, "extras"),
        )


def create_environment(
    workspace: str | None = None,
    docker_image: str | None = None,
    pip_packages: Sequence[str] | None = None,
    env_vars: Mapping[str, str] | None = None,
    extras: Sequence[str] | None = None,
) -> EnvironmentConfig:
    """The same as `EnvironmentConfig.create`.

    Args:
        workspace: See there.
        docker_image: See there.
        pip_packages: See there.
        env_vars: See there.
        extras: See there.

    Raises:
        InvalidRequestError: See there.
    """
    return EnvironmentConfig.create(workspace, docker_image, pip_packages, env_vars, extras)


def _listed(values: Sequence[str] | None, what: str) -> list[str]:
    _check_strings(values or (), what)
    return list(values or ())


def _check_mapping(variables: object) -> None:
    if not isinstance(variables, Mapping):
        raise InvalidRequestError(
            f"env_vars must map names to strings, as in {{'NAME': 'value'}}; not {variables!r}"
        )


def _check_strings(values: object, what: str) -> None:
    if isinstance(values, str):
        raise InvalidRequestError(f"{what} must be a list of strings: [{values!r}]")
    if not isinstance(values, Sequence) or not all(isinstance(v, str) and v for v in values):  # pyright: ignore[reportUnknownVariableType]
        raise InvalidRequestError(f"{what} must be a list of non-empty strings, not {values!r}")


def _check_variable(name: object, value: object) -> None:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise InvalidRequestError(f"{name!r} cannot be the name of an environment variable")
    if not isinstance(value, str) or "\0" in value:
        # The value itself stays out of the message: it may be a secret.
        raise InvalidRequestError(
            f"environment variable {name} must be a string without NUL, not {type(value).__name__}"
        )


__all__ = ["EnvironmentConfig", "create_environment"]
