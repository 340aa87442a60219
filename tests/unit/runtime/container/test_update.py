from __future__ import annotations

from typing import Any

import pytest

from netkit.errors import Conflict, InvalidSpec
from runtime.container.config import HostConfig, RestartPolicy
from runtime.container.options import UpdateRequest
from runtime.container.update import apply_update

HOST = HostConfig(memory=1 << 20, cpu_shares=512, pids_limit=9, auto_remove=True)


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"memory": 2 << 20}, {"memory": 2 << 20}),
        ({"memory": 2 << 20, "cpu_shares": 0}, {"memory": 2 << 20}),
        ({"pids_limit": 0}, {"pids_limit": 0}),
        ({"restart_policy": RestartPolicy()}, {}),
        ({}, {}),
    ],
)
def test_what_is_given_and_not_zero_is_new_and_all_else_stays(
    given: dict[str, Any], changed: dict[str, Any]
) -> None:
    names = {"memory": "Memory", "cpu_shares": "CpuShares", "pids_limit": "PidsLimit",
             "restart_policy": "RestartPolicy"}  # fmt: skip
    request = UpdateRequest(**given, given=sorted(names[name] for name in given))
    before = {name: getattr(HOST, name) for name in HOST.__struct_fields__}
    after = apply_update(HOST, request)
    assert {name: getattr(after, name) for name in HOST.__struct_fields__} == before | changed
    assert {name: getattr(HOST, name) for name in HOST.__struct_fields__} == before


def test_what_is_not_given_is_not_looked_at() -> None:
    assert apply_update(HOST, UpdateRequest(memory=5, given=[])).memory == HOST.memory


def test_what_cannot_change_while_a_container_exists_is_named() -> None:
    with pytest.raises(InvalidSpec, match="NetworkMode of a container cannot be updated"):
        apply_update(HOST, UpdateRequest(network_mode="host", given=["Memory", "NetworkMode"]))


def test_a_policy_that_makes_no_sense_with_the_rest_is_refused() -> None:
    policy = RestartPolicy(name="always")
    with pytest.raises(InvalidSpec, match="AutoRemove"):
        apply_update(HOST, UpdateRequest(restart_policy=policy, given=["RestartPolicy"]))


def test_memory_above_the_limit_with_swap_needs_both() -> None:
    host = HostConfig(memory=1 << 20, memory_swap=2 << 20)
    with pytest.raises(Conflict, match="memoryswap"):
        apply_update(host, UpdateRequest(memory=4 << 20, given=["Memory"]))
    both = UpdateRequest(memory=4 << 20, memory_swap=8 << 20, given=["Memory", "MemorySwap"])
    assert apply_update(host, both).memory_swap == 8 << 20
    assert apply_update(host, UpdateRequest(memory=2 << 20, given=["Memory"])).memory == 2 << 20
