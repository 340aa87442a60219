"""Any program of any chassis of an OVN is killed and hosts are cut off, under load.

`make torture TORTURE='--lab ovn ...'` is the same for hours.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from netkit.lab.running import RunningLab
from tests.labs.conftest import running
from tests.torture import remains
from tests.torture.labs import survive
from tests.torture.scenes import OVN
from tests.torture.silence import SHUT, Silence
from tests.torture.storm import Unkept

pytestmark = pytest.mark.skipif(
    not shutil.which("ovn-controller"), reason="needs ovn-host, ovn-central"
)
KILLS = int(os.environ.get("NETKIT_TEST_KILLS") or 4)
SEED = int(os.environ.get("NETKIT_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
KINDS = ("logical port", "rule", "port", "flow")
NB = ("ovn-nbctl", "--db=tcp:10.0.0.1:6641,tcp:10.0.0.2:6641,tcp:10.0.0.3:6641", "--timeout=10")


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running(OVN.folder, "stormo") as lab:
        yield lab


@contextmanager
def planted(lab: RunningLab, kind: str) -> Iterator[str]:
    """Plant a leak of the kind given; yield what its line must contain."""
    run, switch = lab.h2.run, lab.h2.run(*NB, "--bare", "--columns=name", "list", "Logical_Switch")
    name = switch.split()[0]
    match kind:
        case "logical port":
            run(*NB, "lsp-add", name, "left")
            yield "ovnnb: row of Logical_Switch_Port: ['left'"
            run(*NB, "lsp-del", "left")
        case "rule":
            run(*NB, "acl-add", name, "to-lport", "1", "tcp.dst == 7", "drop")
            yield "ovnnb: row of ACL: ['', 'tcp.dst == 7'"
            run(*NB, "acl-del", name, "to-lport", "1", "tcp.dst == 7")
        case "port":
            interface = ("set", "interface", "left", "type=internal")
            run("ovs-vsctl", "add-port", "br-int", "left", "--", *interface)
            yield "h2: port left of br-int"
            run("ovs-vsctl", "del-port", "left")
        case "flow":
            flow = "table=99,priority=7,tcp,tp_dst=7"
            run("ovs-ofctl", "-O", "OpenFlow14", "add-flow", "br-int", f"{flow},actions=drop")
            yield "h2: flow of br-int: table=99, priority=7,tcp,tp_dst=7"
            run("ovs-ofctl", "-O", "OpenFlow14", "del-flows", "br-int", "table=99")


def test_what_is_left_is_seen(lab: RunningLab) -> None:
    before = remains.picture(lab, OVN)
    with ExitStack() as stack:
        lines = [stack.enter_context(planted(lab, kind)) for kind in KINDS]
        found = before.differences(remains.picture(lab, OVN))
        assert [line for line in lines if not any(line in text for text in found)] == [], found
    remains.assert_clean(lab, before, OVN)


def test_a_packet_that_gets_through_a_rule_is_seen(lab: RunningLab) -> None:
    silence = Silence(lab, "r1", "r2", "wide")
    try:
        shut = next(line for line in lab.r2.netkit("fw", "ls").splitlines() if str(SHUT) in line)
        lab.r2.netkit("fw", "rm", shut.split()[0])
        silence._rule = ""
        time.sleep(1)
        with pytest.raises(Unkept, match="that a rule drops got through"):
            silence.check()
    finally:
        silence.stop()


@pytest.mark.timeout(900)
def test_everything_converges_whichever_process_is_killed(lab: RunningLab) -> None:
    print(f"seed {SEED}: repeat with NETKIT_TEST_SEED={SEED} NETKIT_TEST_KILLS={KILLS}")
    report = survive(lab, KILLS, SEED, scene=OVN)
    print(report)
    assert report.acknowledged > 0  # the load was real
    assert report.lines > 0
    assert report.allowed > 0
