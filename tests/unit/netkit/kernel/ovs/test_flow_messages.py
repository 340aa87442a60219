"""Flows as OpenFlow messages; that ovs-vswitchd takes them as it takes ovs-ofctl's is tested by
tests/contract/test_ovs.py."""

from __future__ import annotations

import pytest

from netkit.kernel.ovs import flow_messages
from netkit.kernel.ovs.flow_messages import Unknown, addition

MAC = "02:42:0a:07:00:02"


def test_a_flow_is_a_match_padded_to_eight_bytes_and_its_instructions() -> None:
    made = addition(0x4E, f"table=1,priority=10,dl_dst={MAC},actions=output:p1", {"p1": 5})
    assert made[:8] == (0x4E).to_bytes(8, "big")
    assert made[16:18] == bytes([1, 0])  # table, OFPFC_ADD
    assert made[22:24] == (10).to_bytes(2, "big")
    assert made[40:].hex() == (
        "0001000e" "80000606" "02420a070002" "0000"  # eth_dst
        "00040018" "00000000" "00000010" "00000005" "0000" "000000000000"  # apply: output 5
    )  # fmt: skip
    assert len(made) % 8 == 0


def test_what_is_dropped_has_no_instruction() -> None:
    made = addition(1, "priority=299,in_port=p1,actions=drop", {"p1": 1})
    assert made[40:].hex() == "0001000c" "80000004" "00000001" "00000000"


@pytest.mark.parametrize(
    "flow",
    [
        "nonsense=1,actions=NORMAL",
        "in_port=elsewhere,actions=NORMAL",
        "ip,tp_dst=80,actions=NORMAL",
        "tcp,udp,actions=NORMAL",
        "ipv6,actions=NORMAL",
        "dl_src=02:42/ff:ff,actions=NORMAL",
        "nw_src=10.0.0.1,actions=NORMAL",
        "actions=load:1->NXM_NX_REG0[]",
        "actions=resubmit(,1,ct)",
        "actions=",
        "priority=1",
        "",
    ],
)
def test_what_is_not_known_is_not_guessed(flow: str) -> None:
    with pytest.raises(Unknown):
        addition(1, flow, {"p1": 1})


def test_a_message_of_a_bundle_has_the_flow_in_a_message_of_its_own() -> None:
    body = flow_messages.deletion(0x4E, 0xFF)
    made = flow_messages.added(1, 7, body)
    assert made[:8].hex() == f"0522{len(made):04x}00000007"
    assert made[8:16].hex() == "0000000100000003"
    assert made[16:24].hex() == f"050e{8 + len(body):04x}00000007"
