"""One virtual environment per peer under `.bench/`, made on first use: none constrains another.

Packages come from wherever the installer of this machine is configured to look; nothing here says
where. The environment variables of this process, certificates among them, are passed on.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks import processes

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".bench"
INSTALL_DEADLINE_S = 900.0
REQUIREMENTS = {
    "fray": ("-e", "."),
    "ray": ("ray>=2.40",),
    "xoscar": ("xoscar>=0.9", "uvloop>=0.21"),
    "zephyr": ("-e", ".[zephyr]"),
    "ray-data": ("ray[data]>=2.40",),
    "dask": ("dask[bag]>=2024.6", "distributed>=2024.6", "orjson>=3.10"),
    "multiprocessing": ("orjson>=3.10",),
}
PEERS = ("fray", "ray", "xoscar")
"""Of actors; the others are for data."""


def interpreter(peer: str, *, renew: bool = False) -> Path:
    """The interpreter of the environment that holds `peer`, which is made if it is not there.

    Args:
        peer: One of PEERS.
        renew: Make it anew, with the newest releases.

    Raises:
        processes.RunError: It cannot be installed; the message says why.
    """
    folder = FOLDER / peer
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    wanted = "\n".join(
        (sys.version, *REQUIREMENTS[peer], _project() if "-e" in REQUIREMENTS[peer] else "")
    )
    if not renew and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {peer} into {folder.relative_to(ROOT)} …", file=sys.stderr, flush=True)
    _install(folder, REQUIREMENTS[peer])
    stamp.write_text(wanted)  # last: an installation that was interrupted has none
    return python


def _project() -> str:
    return (ROOT / "pyproject.toml").read_text()


def _install(folder: Path, requirements: tuple[str, ...]) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is not None:
        try:
            _fresh(folder)
            _run(uv, "venv", "--quiet", "--python", sys.executable, folder)
            _run(uv, "pip", "install", "--quiet", "--python", folder / "bin/python", *requirements)
            return
        except processes.RunError as error:
            # uv reads none of pip's configuration, which may be the only one this machine has.
            print(f"{error}\ntrying pip instead …", file=sys.stderr, flush=True)
    _fresh(folder)
    _run(sys.executable, "-m", "venv", folder)
    _run(folder / "bin/python", "-m", "pip", "install", "--quiet", *requirements)


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)


def _run(*command: str | Path) -> None:
    processes.run(command, deadline_s=INSTALL_DEADLINE_S, folder=ROOT)
