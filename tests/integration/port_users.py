"""Jobs that use named ports. Imported by their processes."""

from __future__ import annotations

import http.server
import os
import threading
import urllib.request
from pathlib import Path

from fray.rpc import FrayActorServer, fray_resolver


class Service:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    def job_id(self) -> str:
        return os.environ["FRAY_JOB_ID"]

    def pid(self) -> int:
        return os.getpid()

    def port(self) -> int:
        return int(os.environ["FRAY_PORT_SVC"])


def serve_at_port(name: str) -> None:
    """Serves one actor at the port ``svc``."""
    server = FrayActorServer(fray_resolver(), port=int(os.environ["FRAY_PORT_SVC"]))
    server.register(name, Service(name))
    server.serve()


def serve_two() -> None:
    """Serves two actors, at the process's own port."""
    server = FrayActorServer(fray_resolver())
    for name in ("first", "second"):
        server.register(name, Service(name))
    server.serve()


def talk_http(directory: str) -> None:
    """Serves and asks once over HTTP, at a port of its own; writes down which ports it has."""
    ports = [os.environ[name] for name in ("FRAY_PORT_HTTP", "FRAY_PORT_SECOND_PORT")]
    handler = http.server.SimpleHTTPRequestHandler
    with http.server.HTTPServer(("127.0.0.1", int(ports[0])), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/") as answer:
            assert answer.status == 200
        thread.join()
    (Path(directory) / os.environ["FRAY_TASK_INDEX"]).write_text(" ".join(ports))
