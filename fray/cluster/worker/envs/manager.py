"""What a host's agent asks for an attempt's surroundings: its code, its packages, its interpreter.

Each is made once, for all who wait for it: two tasks of one environment build once, and different
environments are built beside each other, a few at a time. What nobody waits for any more is given
up. All who wait see the build's log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fray.cluster.blobs import digest_of
from fray.cluster.bundles import DIGEST_FILE, unpack_workspace
from fray.cluster.shelflimits import ShelfLimits
from fray.cluster.worker.accounts import Account
from fray.cluster.worker.envs import base, steps
from fray.cluster.worker.envs.build import BUILD_TIMEOUT_S, BuildFailed, Commands, Say
from fray.cluster.worker.envs.container import Images
from fray.cluster.worker.envs.needs import Needs, needs_of
from fray.cluster.worker.envs.shelf import Shelf, remove, size_of
from fray.errors import InvalidRequestError, PayloadError

if TYPE_CHECKING:
    from fray.runtime.clock import Clock
    from fray.runtime.tasks import Scope

log = logging.getLogger(__name__)

BUILDS_MAX = 4
"""How many environments are built at once; the others queue."""

BACKLOG_LINES_MAX = 10_000
"""Of a build's log, for those who come to wait for it late."""

CODE, VENV = "code", "venv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an attempt's surroundings have to be.

    Attributes:
        image: A Docker image, in place of all but the variables; empty for none.
        bundle: The digest of its project's bundle; empty for none.
        project: A project folder of this host, in place of a bundle; empty for none.
        extras: Of the project.
        pip_packages: Further requirements.
        variables: The job's own environment variables; those of uv decide where packages come from.
        fetch: Gives the bytes of a digest.
        account: Who runs in it, and builds it: each has environments of its own. None for us.
    """

    image: str = ""
    bundle: str = ""
    project: str = ""
    extras: Sequence[str] = ()
    pip_packages: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    fetch: Callable[[str], Awaitable[bytes]]
    account: Account | None = None

    @property
    def whose(self) -> str:
        """Of whom it is, as a part of keys."""
        return "" if self.account is None else f"-{self.account.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where an attempt runs.

    Attributes:
        python: Its interpreter.
        venv: Its virtual environment; empty where it is the agent's own.
        code: The unpacked project; empty where there was no bundle.
        image: The Docker image in which it runs; empty for none.
        held: What it holds of this host's environments.
    """

    python: str = sys.executable
    venv: str = ""
    code: str = ""
    image: str = ""
    held: tuple[str, ...] = ()


class _Making:
    """Something that is being made, and who waits for it."""

    def __init__(self) -> None:
        self.waiting = 0
        self.lines: list[str] = []
        self.listeners: list[Say] = []
        self.made: asyncio.Future[Path] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    def say(self, line: str) -> None:
        if len(self.lines) < BACKLOG_LINES_MAX:
            self.lines.append(line)
        for listener in self.listeners:
            listener(line)


Make = Callable[[Path, Say], Awaitable[None]]
"""Makes something in an empty folder."""


class Environments:
    """The environments of a host.

    Args:
        folder: Where they are.
        clock: The host's.
        scope: Owns the builds.
        limits: How much is kept that is not in use, unless the agent's variables say otherwise.
        environ: The agent's environment variables.

    Raises:
        InvalidRequestError: They say something that is no size.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        scope: Scope,
        *,
        limits: ShelfLimits | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._clock = clock
        self._scope = scope
        self._environ = environ
        self._images = Images(clock, environ)
        self._folder = folder
        self._shelf = Shelf(folder, clock, (limits or ShelfLimits()).on_host(environ))
        self._makings: dict[str, _Making] = {}
        self._slots = asyncio.Semaphore(BUILDS_MAX)

    def __repr__(self) -> str:
        return f"<Environments {self._shelf!r}, {len(self._makings)} being made>"

    def limit(self, limits: ShelfLimits) -> None:
        """Keeps so much from now on.

        Args:
            limits: As for the constructor.
        """
        limits = limits.on_host(self._environ)
        if limits != self._shelf.limits:
            self._shelf.limits = limits
            self._tidy()

    async def recover(self) -> None:
        """Finds what earlier agents have made. Before anything is asked for."""
        await asyncio.to_thread(self._shelf.recover)

    def hold(self, holder: str, held: Sequence[str]) -> None:
        """Keeps what an attempt of an earlier agent uses.

        Args:
            holder: The attempt.
            held: `Surroundings.held` of it.
        """
        for key in held:
            self._shelf.hold(key, holder)

    def release(self, holder: str) -> None:
        """An attempt has ended; what is more than may be kept goes.

        Args:
            holder: The attempt.
        """
        self._shelf.release(holder)
        self._tidy()

    async def obtain(self, holder: str, asked: Asked, say: Say) -> Surroundings:
        """Gives surroundings, and makes what is missing of them.

        Cancelling gives up what nobody else waits for.

        Args:
            holder: The attempt; it holds what it gets until `release`.
            asked: What they have to be.
            say: Takes the lines of the build's log.

        Raises:
            BuildFailed: They cannot be made.
            FrayError: The bundle cannot be fetched.
            OSError: The disk is full, or broken.
        """
        if asked.image:
            await self._images.obtain(asked.image, say)
            return Surroundings(image=asked.image)
        held: list[str] = []
        code: Path | None = None
        if asked.bundle:
            key = f"{CODE}-{asked.bundle[:32]}{asked.whose}"
            held.append(key)
            code = await self._once(holder, key, self._unpacking(asked), say) / CODE
        project = code or (Path(asked.project) if asked.project else None)
        try:
            needs = await asyncio.to_thread(needs_of, project, asked.extras, asked.pip_packages)
        except InvalidRequestError as exc:
            raise BuildFailed(str(exc)) from exc
        where = str(code) if code else ""
        if await asyncio.to_thread(_is_there_already, needs):
            return Surroundings(code=where, held=tuple(held))
        variables = steps.uv_variables(asked.variables)
        files = (asked.bundle or self._clock.token(8)) if needs.of_files else ""
        uv_facts = [f"{name}={value}" for name, value in sorted(variables.items())]
        key = needs.key(base.interpreter(), base.layer_text(), files, *uv_facts)
        key = f"{VENV}-{key}{asked.whose}"
        held.append(key)
        building = self._building(needs, project, variables, asked.account)
        venv = await self._once(holder, key, building, say) / VENV
        python = str(venv / "bin" / "python")
        return Surroundings(python=python, venv=str(venv), code=where, held=tuple(held))

    # ---- once for all

    async def _once(self, holder: str, key: str, make: Make, say: Say) -> Path:
        self._shelf.hold(key, holder)
        found = self._shelf.find(key)
        if found is not None:
            return found
        making = self._makings.get(key)
        if making is None:
            making = self._makings[key] = _Making()
            name = f"make {key}"
            making.task = self._scope.spawn(self._make(key, making, make), name=name)
        for line in making.lines:
            say(line)
        making.listeners.append(say)
        making.waiting += 1
        try:
            return await asyncio.shield(making.made)
        finally:
            making.waiting -= 1
            making.listeners.remove(say)
            if not making.waiting and not making.made.done():
                assert making.task is not None
                self._makings.pop(key, None)
                making.task.cancel()

    async def _make(self, key: str, making: _Making, make: Make) -> None:
        try:
            path = await self._made(key, make, making.say)
        except asyncio.CancelledError:
            making.made.cancel()
            raise
        except Exception as exc:  # whatever it is, those who wait must hear of it
            making.made.set_exception(exc)
            making.made.exception()  # whoever waited may have gone just now
        else:
            making.made.set_result(path)
        finally:
            if self._makings.get(key) is making:
                del self._makings[key]
        self._tidy()

    async def _made(self, key: str, make: Make, say: Say) -> Path:
        path = self._shelf.new(key)
        try:
            await make(path, say)
            self._shelf.finish(key, path, await asyncio.to_thread(size_of, path))
        except BaseException:
            # In a thread that is not waited for: a cancelled build must not be held up.
            self._scope.spawn(asyncio.to_thread(remove, [path]), name="remove")
            raise
        return path

    def _tidy(self) -> None:
        gone = self._shelf.take_out()
        if gone and not self._scope.closed:
            self._scope.spawn(asyncio.to_thread(remove, gone), name="remove")

    # ---- what is made

    def _unpacking(self, asked: Asked) -> Make:
        async def unpack(path: Path, _say: Say) -> None:
            data = await asked.fetch(asked.bundle)
            code = path / CODE
            code.mkdir(mode=0o755 if asked.account is None else 0o750)
            (path / DIGEST_FILE).write_text(asked.bundle)
            try:
                await asyncio.to_thread(_unpack, data, asked.bundle, code)
            except PayloadError as exc:
                raise BuildFailed(str(exc)) from exc
            if asked.account is not None:
                await asyncio.to_thread(_let_read, code, asked.account.gid)
                _let_through(path)

        return unpack

    def _building(
        self,
        needs: Needs,
        project: Path | None,
        variables: Mapping[str, str],
        account: Account | None,
    ) -> Make:
        async def build(path: Path, say: Say) -> None:
            if self._slots.locked():
                say(f"waiting: {BUILDS_MAX} other environments are being built here")
            async with self._slots:
                begun = self._clock.monotonic()
                say(f"building an environment: {_told(needs)}")
                try:
                    async with asyncio.timeout(BUILD_TIMEOUT_S):
                        await self._build(path, needs, project, variables, account, say)
                except TimeoutError:
                    raise BuildFailed(
                        f"it took more than {BUILD_TIMEOUT_S / 60:g} min", of_moment=True
                    ) from None
                say(f"built in {self._clock.monotonic() - begun:.1f} s")

        return build

    async def _build(
        self,
        path: Path,
        needs: Needs,
        project: Path | None,
        variables: Mapping[str, str],
        account: Account | None,
        say: Say,
    ) -> None:
        uv = await asyncio.to_thread(steps.find_uv, self._environ)
        if not uv:
            raise BuildFailed(
                "uv is not installed on this host: `pip install uv` into the agent's environment, "
                "or put it on its PATH",
                of_moment=True,
            )
        place = steps.Place(path / VENV, path, project or path)
        _write_notes(path, needs)
        cache = None
        if account is not None:  # packages run code of theirs as they are built
            cache = self._cache_of(account)
            _give(place.venv, account)
            _let_through(path)
        commands = Commands(
            path,
            place.code,
            environ=self._environ,
            variables=variables,
            clock=self._clock,
            say=say,
            account=account,
            cache=cache,
        )
        await commands.run([steps.make_step(uv, place), *steps.install_steps(uv, needs, place)])
        await commands.run([steps.layer_step(place, base.layer_text()), steps.check_step(place)])

    def _cache_of(self, account: Account) -> Path:
        """Where uv keeps what it has fetched for an account: nobody is to trust another's."""
        path = self._folder.parent / "caches" / account.name
        path.parent.mkdir(mode=0o711, exist_ok=True)
        if not path.exists():
            _give(path, account)
        return path


def _unpack(data: bytes, digest: str, folder: Path) -> None:
    """Unpacks a bundle that is what its digest says. Blocks.

    Raises:
        BuildFailed: It came damaged.
        PayloadError: It is none.
        OSError: It cannot be written.
    """
    if digest_of(data) != digest:  # damaged text unpacks as well, mostly
        raise BuildFailed("its bundle came damaged: it has another digest", of_moment=True)
    unpack_workspace(data, folder)


def _is_there_already(needs: Needs) -> bool:
    """Whether the agent's own environment will do."""
    if needs.is_nothing:
        return True
    return not needs.is_fixed and not needs.of_files and base.satisfies(needs.requirements)


def _told(needs: Needs) -> str:
    parts = [] if needs.source.value == "nothing" else [needs.source.value]
    parts += [f"extra {extra}" for extra in needs.extras]
    return ", ".join([*parts, *needs.pip_packages])


def _write_notes(path: Path, needs: Needs) -> None:
    notes = {
        steps.OVERRIDES: [f"{base.DISTRIBUTION} ; python_version < '0'"],
        steps.CONSTRAINTS: base.constraints(),
        steps.PACKAGES: needs.pip_packages,
    }
    for name, lines in notes.items():
        (path / name).write_text("".join(f"{line}\n" for line in lines))


def _give(path: Path, account: Account) -> None:
    """Makes a folder that is an account's."""
    path.mkdir(mode=0o700)
    os.chown(path, account.uid, account.gid)


def _let_through(path: Path) -> None:
    """Lets others reach what they may read in a folder, if they know its name; they see no list."""
    path.chmod(0o711)


def _let_read(folder: Path, gid: int) -> None:
    """Lets a group read what is in a folder, and nobody but us change it. Blocks."""
    os.chown(folder, -1, gid)
    for parent, folders, files in os.walk(folder):
        for name in folders:
            _let_group(os.path.join(parent, name), gid, 0o750)
        for name in files:
            _let_group(os.path.join(parent, name), gid)


def _let_group(path: str, gid: int, mode: int | None = None) -> None:
    if os.path.islink(path):
        return
    own = os.stat(path).st_mode & 0o700 if mode is None else mode
    os.chown(path, -1, gid)
    os.chmod(path, own | own >> 3)


__all__ = ["BUILDS_MAX", "Asked", "Environments", "Surroundings"]
