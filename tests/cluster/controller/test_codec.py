"""Commands and tables as JSON."""

import typing

import cattrs
import orjson
import pytest

from fray.cluster.controller import state
from fray.cluster.controller.codec import (
    configure,
    decode_command,
    decode_tables,
    encode_command,
    encode_tables,
)
from fray.cluster.controller.commands import Command, GroupSpec, StopJob, SubmitJobs
from fray.cluster.controller.specs import ActorRole, Environment
from fray.cluster.devices import CpuConfig, DeviceConfig, GpuConfig, ResourceConfig, TpuConfig
from fray.errors import InvalidRequestError

from .world import FAILED


def test_every_command_has_a_rule():
    assert set(typing.get_args(Command)) == set(state._RULES)


def test_a_command_survives_as_json(world):
    spec = world.spec(
        "all",
        ResourceConfig(2.5, "8g", "1t", GpuConfig("H100", count=0.5), 3, False, ("us",)),
        environment=Environment("digest", "", ("tpu",), ("a>1",), ("KEY",), "secret-digest"),
        ports=("http",),
        parent=None,
        actor=ActorRole("id", "driver"),
        hints={"isolate": "1"},
    )
    command = SubmitJobs(
        "s1", (spec, world.spec("tpu", ResourceConfig.with_tpu("v6e-8"))), GroupSpec("g")
    )
    assert decode_command(encode_command(command)) == command
    assert orjson.loads(encode_command(command))["type"] == "SubmitJobs"


def test_fields_that_are_missing_take_their_defaults_and_unknown_ones_are_ignored():
    data = b'{"type":"StopJob","job_id":"u/a","reason":"r","later":{"x":1}}'
    assert decode_command(data) == StopJob("u/a", "r", 30.0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "this is not a command, and no JSON"),
        (b"[]", "None is no command; there are"),
        (b'"StopJob"', "None is no command"),
        (b'{"type":"Explode"}', "'Explode' is no command; there are RegisterWorker"),
        (b'{"type":"StopJob","job_id":"a"}', r"required field missing @ \$.reason"),
        (b'{"type":"StopJob","job_id":"a","reason":"","grace_s":"x"}', r"\$.grace_s"),
    ],
)
def test_what_is_no_command_is_refused_with_the_path_to_the_fault(data, message):
    with pytest.raises(InvalidRequestError, match=message):
        decode_command(data)


def test_a_value_that_checks_itself_speaks_for_itself(world):
    data = encode_command(SubmitJobs("s1", (world.spec("a"),)))
    for wrong, message in (
        (data.replace(b'"cpu":1', b'"cpu":-1'), r"cpu must be .* @ \$.jobs\[0\].resources"),
        (data.replace(b'"kind":"cpu"', b'"kind":"qpu"'), "'qpu' is no kind of device"),
        (data.replace(b'"gang":"task"', b'"gang":"mob"'), r"\$.jobs\[0\].gang"),
    ):
        assert wrong != data
        with pytest.raises(InvalidRequestError, match=message):
            decode_command(wrong)


def test_tables_survive_as_json_with_their_indexes(world):
    world.slice("s")
    world.host("a", gpus={"H100": 4}, slots=2, labels={"x": "y"})
    world.start(
        world.spec("gang", ResourceConfig.with_tpu("v5litepod-16"), max_retries_failure=1),
        world.spec("gpu", ResourceConfig.with_gpu("auto", 2)),
        group=GroupSpec("g", same_region=False),
    )
    world.submit(world.spec("child", parent="u/gang"), world.spec("act", actor=ActorRole("i", "d")))
    world.tell("u/gang", 0, FAILED)
    tables = world.ledger.tables
    again = decode_tables(encode_tables(tables))
    assert again == tables
    assert again.indexes == tables.indexes


def test_a_snapshot_of_another_format_is_refused(world):
    data = encode_tables(world.ledger.tables).replace(b'"format":1', b'"format":99')
    with pytest.raises(InvalidRequestError, match="format 99, and only 1 can be read"):
        decode_tables(data)
    with pytest.raises(InvalidRequestError, match="this is not a snapshot"):
        decode_tables(b"{}")


@pytest.mark.parametrize("device", [CpuConfig(), GpuConfig("H100", count=2), TpuConfig("v6e-8")])
def test_another_converter_can_be_taught_the_unions(device):
    converter = cattrs.Converter()
    configure(converter)
    data = converter.unstructure(device, unstructure_as=DeviceConfig)
    assert converter.structure(data, DeviceConfig) == device
    resources = ResourceConfig(device=device)
    assert converter.structure(converter.unstructure(resources), ResourceConfig) == resources
