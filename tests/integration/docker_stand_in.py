#!/usr/bin/env python3
"""A stand-in for Docker, for machines without its daemon: it is NOT Docker.

It takes the few commands that fray gives, and runs "containers" as plain processes of this machine,
without any isolation. As with Docker, a container is a child of the daemon and not of the command,
so that it goes on when the command is killed.

    docker_stand_in.py daemon SOCKET     the daemon
    docker ...                           a command, if started under any other first word; the
                                         daemon is found by the variable DOCKER_STAND_IN
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

WITH_VALUE = {"--name", "--log-driver", "--network", "--ipc", "--user", "--env-file", "--env"}
WITH_VALUE |= {"--volume", "--gpus", "--workdir"}


class Daemon:
    """Images and containers; every command is appended to ``SOCKET.log``."""

    def __init__(self, path: str) -> None:
        self.images: set[str] = set()
        self.containers: dict[str, subprocess.Popen[bytes]] = {}
        self.oom: set[str] = set()
        self.log = Path(f"{path}.log")
        self.lock = threading.Lock()

    def note(self, line: str) -> None:
        with self.lock, self.log.open("a") as file:
            file.write(f"{line}\n")

    def serve(self, connection: socket.socket) -> None:
        with connection:
            data, fds, _, _ = socket.recv_fds(connection, 1 << 20, 2)
            request = json.loads(data)
            self.note(" ".join(request["argv"]))
            try:
                code = self.obey(request, fds, connection)
            except KeyError as exc:
                os.write(fds[1], f"Error: no such object: {exc}\n".encode())
                code = 1
            for fd in fds:
                os.close(fd)
            connection.sendall(json.dumps(code).encode())

    def obey(self, request: dict[str, Any], fds: list[int], connection: socket.socket) -> int:
        verb, *rest = request["argv"]
        match verb:
            case "image":
                if rest[-1] not in self.images:
                    raise KeyError(rest[-1])
                return 0
            case "pull":
                if rest[0].startswith("missing"):
                    os.write(fds[1], b"Error response: pull access denied, repository not found\n")
                    return 1
                os.write(fds[0], f"Pulling {rest[0]}\n".encode())
                self.images.add(rest[0])
                return 0
            case "run":
                return self.run(rest, request["env"], fds, connection)
            case "inspect":
                os.write(fds[0], b"true\n" if rest[-1] in self.oom else b"false\n")
                return 0 if rest[-1] in self.containers else 1
            case "rm":
                process = self.containers.pop(rest[-1])
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return 0
        return 125

    def run(
        self, words: list[str], cli: dict[str, str], fds: list[int], connection: socket.socket
    ) -> int:
        env: dict[str, str] = {"PATH": os.environ["PATH"]}
        name = ""
        while words[0].startswith("--"):
            option = words.pop(0)
            value = words.pop(0) if option in WITH_VALUE else ""
            if option == "--name":
                name = value
            elif option == "--env-file":
                lines = Path(value).read_text().splitlines()
                env.update(line.split("=", 1) for line in lines)  # type: ignore[arg-type]
            elif option == "--env":
                env[value] = cli[value]
        image, *command = words
        env["IMAGE"] = image
        extra = os.environ.get("STAND_IN_PYTHONPATH", "")
        process = subprocess.Popen(
            command,
            env={**env, "PYTHONPATH": extra},
            stdout=fds[0],
            stderr=fds[1],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        self.containers[name] = process
        signals = threading.Thread(target=self.pass_on, args=(connection, process), daemon=True)
        signals.start()
        code = process.wait()
        if code == -signal.SIGKILL and image.startswith("small"):
            self.oom.add(name)
        return code if code >= 0 else 128 - code

    def pass_on(self, connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
        while data := connection.recv(1):
            process.send_signal(data[0])


def daemon(path: str) -> None:
    state = Daemon(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=state.serve, args=(connection,), daemon=True).start()


def command(argv: list[str]) -> int:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ["DOCKER_STAND_IN"])
    request = json.dumps({"argv": argv, "env": dict(os.environ)}).encode()
    socket.send_fds(connection, [request], [1, 2])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: connection.send(bytes([number])))
    return json.loads(connection.recv(1 << 16) or b"1")


if __name__ == "__main__":
    if sys.argv[1] == "daemon":
        daemon(sys.argv[2])
    sys.exit(command(sys.argv[1:]))
