"""From the environment that a user asks for to the one that the ledger keeps.

Folders and values of variables become blobs of the cluster; the ledger has their digests only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fray.cluster.controller.specs import Environment
from fray.cluster.environment import DEFAULT_ENV_VARS, INHERITED_ENV_VARS
from fray.errors import InvalidRequestError
from fray.runtime.jsoncodec import json_dumps

if TYPE_CHECKING:
    from fray.cluster.bundler import Bundler
    from fray.cluster.control import BlobsApi
    from fray.cluster.environment import EnvironmentConfig


_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
"""Not an option for docker, above all."""


class EnvironmentSender:
    """Sends what the environments of jobs consist of.

    Args:
        blobs: The controller's.
        bundler: Sends project folders.

    Attributes:
        takes_bundles: Whether the cluster wants project folders.
        with_extras: Whether extras are for its hosts to install.
    """

    def __init__(self, blobs: BlobsApi, bundler: Bundler) -> None:
        self.takes_bundles = False
        self.with_extras = True
        self._blobs = blobs
        self._bundler = bundler

    async def send(self, asked: EnvironmentConfig | None) -> tuple[Environment, Mapping[str, str]]:
        """The environment as the ledger keeps it, and the variables that the user gave.

        Args:
            asked: What the user asks for; None for nothing in particular.

        Raises:
            InvalidRequestError: The workspace is too large, or a link points out of it.
            OSError: Something in it cannot be read.
        """
        if asked is None:
            return Environment(), {}
        variables = dict(asked.env_vars)
        secrets = await self._blobs.put(json_dumps(variables)) if variables else ""
        bundle = ""
        if asked.workspace is not None and self.takes_bundles:
            bundle = await self._bundler.send(asked.workspace)
        usual = {*DEFAULT_ENV_VARS, *INHERITED_ENV_VARS}
        given = {k: v for k, v in variables.items() if k not in usual}
        environment = Environment(
            workspace=bundle,
            docker_image=asked.docker_image or "",
            extras=tuple(asked.extras) if self.with_extras else (),
            pip_packages=tuple(asked.pip_packages),
            env_names=tuple(sorted(variables)),
            secrets=secrets,
        )
        return environment, given


def check_environment(environment: EnvironmentConfig | None, of: str) -> None:
    """Refuses an environment that cannot be.

    Args:
        environment: What is asked for; None for nothing in particular.
        of: Whose, for errors.

    Raises:
        InvalidRequestError: Its workspace is no folder here, its image has no name, or a package is
            no requirement.
    """
    if environment is None:
        return
    if environment.pip_packages:
        from fray.cluster.worker.envs.needs import check_package  # `packaging` takes a moment

        for package in environment.pip_packages:
            check_package(package)
    image = environment.docker_image
    if image is not None and not _IMAGE.fullmatch(image):
        raise InvalidRequestError(f"{image!r} cannot be the name of a Docker image")
    workspace = environment.workspace
    if workspace is not None and not os.path.isdir(workspace):
        raise InvalidRequestError(
            f"the workspace of {of} is not a folder of this machine: {workspace!r}"
        )


__all__ = ["EnvironmentSender", "check_environment"]
