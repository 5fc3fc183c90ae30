from __future__ import annotations

import asyncio
import os
from pathlib import Path

import orjson
import pytest

from fray.cli.connecting import Place, choose, connection, died, require
from fray.cli.errors import Failure, UsageFailure
from fray.cluster.files import write_atomically
from fray.cluster.home import ClusterHome, all_homes
from fray.errors import InvalidRequestError


def up(root: Path, name: str, address: str) -> ClusterHome:
    home = ClusterHome(name, root)
    home.write_daemon("controller", "", address)
    return home


def died_at(root: Path, name: str, address: str, *, host: str = "") -> ClusterHome:
    """A cluster whose controller was this process in an earlier life."""
    home = ClusterHome(name, root).ensure()
    record = {"pid": 1, "started": 1.0, "address": address, "host": host}
    write_atomically(home.run / "controller.json", orjson.dumps(record))
    return home


def chosen(root: Path, cluster: str | None = None, name: str | None = None, **environ: str):
    return choose(cluster, name, environ=environ, homes=all_homes(root), root=root)


def test_command_line_wins_over_the_environment_and_that_over_what_is_up(tmp_path: Path) -> None:
    up(tmp_path, "default", "127.0.0.1:1")
    up(tmp_path, "lab", "127.0.0.1:2")
    spec = {"FRAY_CLUSTER_SPEC": "fray://elsewhere:3"}
    assert chosen(tmp_path, "fray://h:4", **spec) == Place("fray://h:4")
    place = chosen(tmp_path, None, "lab", **spec)
    assert place is not None
    assert place.spec == "fray://127.0.0.1:2"
    assert chosen(tmp_path, **spec) == Place("fray://elsewhere:3")
    place = chosen(tmp_path)
    assert place is not None
    assert place.spec == "fray://127.0.0.1:1"
    unset = chosen(tmp_path, FRAY_CLUSTER_SPEC="")
    assert unset is not None
    assert unset.spec == place.spec


def test_both_options_at_once_are_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageFailure, match="exclude each other"):
        chosen(tmp_path, "fray://h", "lab")


def test_address_without_a_scheme_will_do(tmp_path: Path) -> None:
    assert chosen(tmp_path, "h:4") == Place("fray://h:4")
    assert chosen(tmp_path, "local?strict=1") == Place("local?strict=1")


@pytest.mark.parametrize("spec", ["fray://", "fray://h:x", "h:0"])
def test_address_that_is_none_is_told(tmp_path: Path, spec: str) -> None:
    with pytest.raises(InvalidRequestError, match="host:port"):
        chosen(tmp_path, spec)


def test_home_of_an_address_is_known_so_that_its_token_is_used(tmp_path: Path) -> None:
    home = up(tmp_path, "lab", "127.0.0.1:2")
    for place in (
        chosen(tmp_path, "fray://localhost:2"),
        chosen(tmp_path, FRAY_CLUSTER_SPEC="fray://localhost:2"),
    ):
        assert place is not None
        assert place.home is not None
        assert place.home.path == home.path


def test_token_that_is_set_along_with_the_spec_is_left_alone(tmp_path: Path) -> None:
    up(tmp_path, "lab", "127.0.0.1:2")
    environ = {"FRAY_CLUSTER_SPEC": "fray://localhost:2", "FRAY_TOKEN_FILE": "/t"}
    assert chosen(tmp_path, **environ) == Place("fray://localhost:2")


async def test_token_that_is_set_wins_over_that_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    class Opening:
        async def __aenter__(self) -> None:
            shown.append(os.environ["FRAY_TOKEN_FILE"])

        async def __aexit__(self, *exc_info: object) -> None: ...

    monkeypatch.setattr("fray.cluster.current.connect", lambda *_, **__: Opening())
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        home = up(tmp_path, "lab", address)
        places = [chosen(tmp_path), chosen(tmp_path, f"fray://{address}")]
        places.append(Place(f"fray://{address}", home, is_ours=True))
        for given in ("/given", ""):
            monkeypatch.setenv("FRAY_TOKEN_FILE", given)
            for place in places:
                assert place is not None
                async with connection(place):
                    assert os.environ["FRAY_TOKEN_FILE"] == given
    own = str(home.token_path)
    assert shown == ["/given", "/given", own, own, own, own]


def test_only_cluster_that_is_up_is_meant(tmp_path: Path) -> None:
    up(tmp_path, "lab", "127.0.0.1:2")
    died_at(tmp_path, "default", "127.0.0.1:3")
    place = chosen(tmp_path)
    assert place is not None
    assert (place.spec, place.label) == ("fray://127.0.0.1:2", "cluster lab")


def test_of_several_somebody_must_choose(tmp_path: Path) -> None:
    up(tmp_path, "lab", "127.0.0.1:2")
    up(tmp_path, "other", "127.0.0.1:3")
    with pytest.raises(Failure, match=r"several clusters are up here \(lab, other\)"):
        chosen(tmp_path)


def test_unknown_name_is_told_with_those_that_are_known(tmp_path: Path) -> None:
    up(tmp_path, "lab", "127.0.0.1:2")
    with pytest.raises(Failure, match=r"\(known: lab\); `fray up --name lob` starts it"):
        chosen(tmp_path, None, "lob")


def test_cluster_that_is_down_is_told(tmp_path: Path) -> None:
    ClusterHome("lab", tmp_path).ensure()
    with pytest.raises(Failure, match="cluster lab is not up; `fray up --name lab` starts it"):
        chosen(tmp_path, None, "lab")


def test_nothing_is_chosen_where_nothing_is_up(tmp_path: Path) -> None:
    assert chosen(tmp_path) is None
    with pytest.raises(Failure, match="no cluster is up on this machine; `fray up`"):
        require(None, all_homes(tmp_path))


def test_controller_that_died_is_told(tmp_path: Path) -> None:
    died_at(tmp_path, "a", "127.0.0.1:3")
    died_at(tmp_path, "default", "127.0.0.1:3")
    assert chosen(tmp_path) is None
    assert [home.name for home in died(all_homes(tmp_path))] == ["default", "a"]
    with pytest.raises(Failure, match=r"cluster default \(process 1\) is dead; `fray up` starts"):
        require(None, all_homes(tmp_path))
    with pytest.raises(Failure, match="`fray up --name a` starts it again, with all its jobs"):
        chosen(tmp_path, None, "a")


def test_controller_on_another_machine_is_believed(tmp_path: Path) -> None:
    died_at(tmp_path, "shared", "other:3", host="other.example")
    place = chosen(tmp_path, None, "shared")
    assert place is not None
    assert place.spec == "fray://other:3"
    assert died(all_homes(tmp_path)) == []


def test_cluster_inside_a_process_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="'local' is a cluster inside each process"):
        require(Place("local"), [])
