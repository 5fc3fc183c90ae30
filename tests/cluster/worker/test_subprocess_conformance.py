"""The real launcher does what every launcher must do."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import pytest

from fray.errors import DeathKind

from .launcher_conformance import LauncherConformance

if TYPE_CHECKING:
    from fray.cluster.worker.launcher import Launcher

    from .subprocess_harness import SubprocessHarness


pytestmark = pytest.mark.integration


class TestSubprocessLauncher(LauncherConformance):
    async def exceed_memory(self, harness: SubprocessHarness, launcher: Launcher) -> None:
        code = "print('ready', flush=True); b = bytearray(400 << 20); print(len(b))"
        spec = harness.spec("hungry", None, sys.executable, "-I", "-S", "-c", code)
        spec = dataclasses.replace(spec, memory_limit_bytes=64 << 20)
        end = await (await launcher.launch(spec)).wait()
        assert end.out_of_memory
        assert end.cause is not None
        assert (end.signal, end.cause.kind) == (9, DeathKind.OUT_OF_MEMORY)
        assert "limit of 64.0 MiB" in str(end.cause)
        assert harness.log(spec) == b"ready\n"
