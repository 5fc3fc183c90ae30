"""Packages that tests make themselves, so that nothing has to be fetched to install them."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

BACKEND = '''
"""A build backend that needs nothing, tells of each build, and waits for leave to go on."""
import os, pathlib, sys, time
sys.path.insert(0, {tests!r})
from tests.wheels import write_wheel

HERE = pathlib.Path({control!r})

def build_wheel(folder, config_settings=None, metadata_directory=None):
    with open(HERE / "builds", "a") as file:
        file.write(f"{{os.getpid()}}\\n")
    while not (HERE / "go").exists():
        time.sleep(0.01)
    return write_wheel(pathlib.Path(folder), {name!r}, "1.0").name
'''


def write_wheel(
    folder: Path, name: str, version: str, *, requires: Sequence[str] = (), body: str = ""
) -> Path:
    """A pure wheel with one module, in which ``VERSION`` is the version."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    files = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n{body}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(zipfile.ZipInfo(inside), text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_slow_package(folder: Path, name: str, control: Path) -> Path:
    """A source tree whose build says that it has begun (``control/builds``), waits for
    ``control/go``, and needs nothing."""
    control.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
        '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'
    )
    root = str(Path(__file__).resolve().parents[1])
    text = BACKEND.format(tests=root, control=str(control), name=name)
    (folder / "slow.py").write_text(text)
    return folder


def builds(control: Path) -> list[int]:
    """The processes of the builds that have begun."""
    path = control / "builds"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_project(
    folder: Path, wheels: Path, dependencies: Sequence[str] = (), rest: str = ""
) -> Path:
    """A project that finds its dependencies among local wheels, and nowhere else."""
    (folder / "src" / "mine").mkdir(parents=True)
    (folder / "src" / "mine" / "__init__.py").write_text('WHAT = "mine"\n')
    listed = ", ".join(f'"{one}"' for one in dependencies)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "mine"\nversion = "1"\ndependencies = [{listed}]\n{rest}'
        f'[tool.uv]\nno-index = true\nfind-links = ["{wheels}"]\n'
    )
    return folder
