from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fray.cluster.worker.environment import (
    DeviceShare,
    SliceMembership,
    TaskIdentity,
    attempt_environment,
    inherited,
    port_variable,
)
from fray.errors import InvalidRequestError
from fray.ids import JobId, Namespace

IDENTITY = TaskIdentity(
    job_id=JobId("me/train-7f3a/0"),
    job_name="train",
    replica_id=1,
    replica_count=2,
    task_index=5,
    num_tasks=8,
    attempt=3,
    namespace=Namespace("me-1"),
    cluster_address="10.0.0.1:50051",
    cluster_spec="fray://10.0.0.1:50051",
    token_file="/run/fray/token",
)

SLICE = SliceMembership(
    hosts=("10.0.1.0", "10.0.1.1"), worker_id=1, coordinator_host="10.0.0.0", slice_id=1
)

TPU = DeviceShare(kind="tpu", visible=("0", "1", "2", "3"), total=4)


def share(kind: str, *visible: str, total: int = 8) -> DeviceShare:
    return DeviceShare(kind=kind, visible=visible, total=total)  # pyright: ignore[reportArgumentType]


def test_task_learns_who_it_is():
    assert attempt_environment(IDENTITY) == {
        "FRAY_ATTEMPT": "3",
        "FRAY_CLUSTER_ADDRESS": "10.0.0.1:50051",
        "FRAY_CLUSTER_SPEC": "fray://10.0.0.1:50051",
        "FRAY_JOB_ID": "me/train-7f3a/0",
        "FRAY_JOB_NAME": "train",
        "FRAY_NAMESPACE": "me-1",
        "FRAY_NUM_TASKS": "8",
        "FRAY_REPLICA_COUNT": "2",
        "FRAY_REPLICA_ID": "1",
        "FRAY_TASK_INDEX": "5",
        "FRAY_TOKEN_FILE": "/run/fray/token",
    }


def test_named_ports_have_variables():
    identity = dataclasses.replace(IDENTITY, ports={"http": 20001, "grpc-api.v2": 20002})
    variables = attempt_environment(identity)
    assert variables["FRAY_PORT_HTTP"] == "20001"
    assert variables["FRAY_PORT_GRPC_API_V2"] == "20002"


def test_ports_that_become_one_variable_are_refused():
    identity = dataclasses.replace(IDENTITY, ports={"a-b": 1, "a_b": 2})
    with pytest.raises(InvalidRequestError, match="FRAY_PORT_A_B"):
        attempt_environment(identity)


@pytest.mark.parametrize("name", ["", "--", "\u00e9"])
def test_port_name_needs_something_that_a_variable_can_hold(name: str):
    with pytest.raises(InvalidRequestError):
        port_variable(name)


def test_users_variables_win_over_frameworks_but_not_over_frays():
    user = {
        "TPU_WORKER_ID": "7",
        "MINE": "1",
        "FRAY_JOB_ID": "forged",
        "FRAY_PORT_HTTP": "1",
        "FRAY_LOG_LEVEL": "debug",
    }
    variables = attempt_environment(IDENTITY, user=user, membership=SLICE, devices=TPU)
    assert variables["TPU_WORKER_ID"] == "7"
    assert variables["MINE"] == "1"
    assert variables["FRAY_JOB_ID"] == IDENTITY.job_id
    assert "FRAY_PORT_HTTP" not in variables
    assert variables["FRAY_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize("user", [{"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"SECRET": "hunter2\0"}])
def test_what_cannot_be_a_variable_is_refused_without_telling_the_value(user: dict[str, str]):
    with pytest.raises(InvalidRequestError) as refused:
        attempt_environment(IDENTITY, user=user)
    assert "hunter2" not in str(refused.value)


def test_member_of_one_tpu_slice_learns_its_place():
    alone = dataclasses.replace(SLICE, slice_id=0, coordinator_host="10.0.1.0")
    variables = attempt_environment(IDENTITY, membership=alone, devices=TPU)
    assert variables["TPU_WORKER_ID"] == "1"
    assert variables["TPU_WORKER_HOSTNAMES"] == "10.0.1.0,10.0.1.1"
    assert variables["JAX_COORDINATOR_ADDRESS"] == "10.0.1.0:8482"
    assert variables["JAX_NUM_PROCESSES"] == "2"
    assert variables["JAX_PROCESS_ID"] == "1"
    assert not any(name.startswith("MEGASCALE") for name in variables)
    assert "TPU_SKIP_MDS_QUERY" not in variables
    assert "TPU_VISIBLE_CHIPS" not in variables


def test_member_of_several_slices_learns_where_they_meet():
    member = dataclasses.replace(SLICE, slice_count=3, metadata_server=False)
    variables = attempt_environment(IDENTITY, membership=member, devices=TPU)
    assert variables["MEGASCALE_COORDINATOR_ADDRESS"] == "10.0.0.0:8081"
    assert variables["MEGASCALE_NUM_SLICES"] == "3"
    assert variables["MEGASCALE_SLICE_ID"] == "1"
    assert variables["MEGASCALE_PORT"] == "8081"
    assert variables["JAX_NUM_PROCESSES"] == "6"
    assert variables["JAX_PROCESS_ID"] == "3"  # slice 1 of two hosts each, worker 1
    assert variables["TPU_SKIP_MDS_QUERY"] == "1"


def test_ports_of_the_coordinators_can_be_chosen():
    member = dataclasses.replace(SLICE, slice_count=2, coordinator_port=1, megascale_port=2)
    variables = attempt_environment(IDENTITY, membership=member, devices=TPU)
    assert variables["JAX_COORDINATOR_ADDRESS"] == "10.0.0.0:1"
    assert variables["MEGASCALE_COORDINATOR_ADDRESS"] == "10.0.0.0:2"
    assert variables["MEGASCALE_PORT"] == "2"


def test_hosts_without_tpus_get_what_jax_needs_and_nothing_of_tpus():
    variables = attempt_environment(IDENTITY, membership=SLICE)
    assert variables["JAX_PROCESS_ID"] == "3"
    assert not any(name.startswith(("TPU", "MEGASCALE")) for name in variables)


def test_part_of_a_tpu_host_sees_its_chips_only():
    variables = attempt_environment(IDENTITY, devices=share("tpu", "2", "3"))
    assert variables["TPU_VISIBLE_CHIPS"] == "2,3"
    assert variables["TPU_CHIPS_PER_HOST_BOUNDS"] == "1,2,1"
    assert variables["TPU_HOST_BOUNDS"] == "1,1,1"


def test_chips_that_cannot_work_together_are_refused():
    with pytest.raises(InvalidRequestError, match="3 of a host's 8 TPU chips"):
        attempt_environment(IDENTITY, devices=share("tpu", "0", "1", "2"))


def test_task_without_chips_on_a_tpu_host_leaves_them_alone():
    variables = attempt_environment(IDENTITY, devices=share("tpu"))
    assert variables["JAX_PLATFORMS"] == "cpu"
    chosen = attempt_environment(IDENTITY, devices=share("tpu"), user={"JAX_PLATFORMS": "tpu"})
    assert chosen["JAX_PLATFORMS"] == "tpu"


@pytest.mark.parametrize(("visible", "listed"), [(("1", "GPU-4f"), "1,GPU-4f"), ((), "")])
def test_gpus_are_shown_or_hidden(visible: tuple[str, ...], listed: str):
    variables = attempt_environment(IDENTITY, devices=share("cuda", *visible))
    assert variables["CUDA_VISIBLE_DEVICES"] == listed
    assert variables["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    amd = attempt_environment(IDENTITY, devices=share("rocm", *visible))
    assert amd["ROCR_VISIBLE_DEVICES"] == listed


def test_agent_inside_a_job_does_not_hand_its_own_identity_down():
    agent = attempt_environment(
        dataclasses.replace(IDENTITY, ports={"x": 1}),
        user={"PATH": "/bin", "FRAY_HOME": "/x", "HOME": "/h"},
    )
    agent |= {"FRAY_ATTEMPT_ID": "a", "FRAY_RUN_DIR": "/r"}
    assert inherited(agent) == {"PATH": "/bin", "FRAY_HOME": "/x", "HOME": "/h"}


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4))
def test_any_users_variables_are_either_refused_or_usable(user: dict[str, str]):
    try:
        variables = attempt_environment(IDENTITY, user=user)
    except InvalidRequestError:
        assert any(not n or "=" in n or "\0" in n + v for n, v in user.items())
        return
    assert list(variables) == sorted(variables)
    for name, value in variables.items():
        assert name
        assert "=" not in name
        assert "\0" not in name + value
    assert attempt_environment(IDENTITY).items() <= variables.items()
