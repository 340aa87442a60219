"""Any program of any host of a cluster is killed under load: everything converges, nothing is left.

`make torture TORTURE='--lab ...'` is the same for hours.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from netkit.lab.running import RunningLab
from tests.labs.conftest import running
from tests.labs.order import in_order
from tests.torture import remains
from tests.torture.labs import survive
from tests.torture.scenes import OVS

KILLS = int(os.environ.get("NETKIT_TEST_KILLS") or 8)
KINDS = ("link", "port", "flow", "namespace", "row of the database", "row of the cluster")
SEED = int(os.environ.get("NETKIT_TEST_SEED") or random.SystemRandom().randrange(1 << 32))


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running(OVS.folder, "storm") as lab:
        yield lab


@contextmanager
def planted(lab: RunningLab, kind: str) -> Iterator[str]:
    """Plant a leak of the kind given; yield what its line must contain."""
    h2 = lab.h2
    bridge = h2.run("ovs-vsctl", "list-br").split()[0]
    match kind:
        case "link":
            h2.run("ip", "link", "add", "nkvleft", "type", "veth", "peer", "name", "nkvtfel")
            yield "h2: links: nkvleft"
            h2.run("ip", "link", "del", "nkvleft")
        case "port":
            h2.run("ovs-vsctl", "add-port", bridge, "left", "--", "set", "interface", "left",
                   "type=internal")  # fmt: skip
            yield f"h2: port left of {bridge}"
            h2.run("ovs-vsctl", "del-port", "left")
        case "flow":
            h2.run("ovs-ofctl", "-O", "OpenFlow14", "add-flow", bridge, "tcp,tp_dst=7,actions=drop")
            yield f"h2: flow of {bridge}: tcp,tp_dst=7"
            h2.run("ovs-ofctl", "-O", "OpenFlow14", "del-flows", bridge, "tcp,tp_dst=7")
        case "namespace":
            path = Path(lab.places.run("h2")) / "netns" / "left"
            path.touch()
            yield str(path)
            path.unlink()
        case "row of the database":
            database = Path(lab.places.root("h2")) / "netkit.db"
            remember(database, "INSERT INTO dhcp_leases VALUES ('left', '{}')")
            yield "h2: row of dhcp_leases: ('left'"
            remember(database, "DELETE FROM dhcp_leases WHERE endpoint = 'left'")
        case "row of the cluster":
            row = {"id": "left", "name": "left", "address": "10.0.0.99"}
            transact(lab, {"op": "insert", "table": "Host", "row": row})
            yield "cluster: row of Host: ('left'"
            transact(lab, {"op": "delete", "table": "Host", "where": [["id", "==", "left"]]})


def remember(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, timeout=10)) as db, db:
        db.execute(statement)


def transact(lab: RunningLab, operation: dict[str, object]) -> None:
    query = json.dumps(["Netkit", operation])
    subprocess.run(
        ["ip", "netns", "exec", lab.places.namespace("h1"), "ovsdb-client", "--timeout=10",
         "transact", "tcp:10.0.0.1:6640", query],
        check=True, capture_output=True,
    )  # fmt: skip


def test_what_is_left_is_seen(lab: RunningLab) -> None:
    before = remains.picture(lab)
    with ExitStack() as stack:
        lines = [stack.enter_context(planted(lab, kind)) for kind in KINDS]
        found = before.differences(remains.picture(lab))
        assert [line for line in lines if not any(line in text for text in found)] == [], found
    remains.assert_clean(lab, before)


def test_disorder_is_seen(lab: RunningLab) -> None:
    in_order(lab)
    bridge = lab.h2.run("ovs-vsctl", "list-br").split()[0]
    port = ("ovs-vsctl", "add-port", bridge, "nkvleft", "--", "set", "interface", "nkvleft")
    lab.h2.run(*port, "type=internal")
    try:
        with pytest.raises(AssertionError, match=r"more than there should be \['nkvleft'\]"):
            in_order(lab)
    finally:
        lab.h2.run("ovs-vsctl", "del-port", "nkvleft")


@pytest.mark.timeout(900)
def test_everything_converges_whichever_process_is_killed(lab: RunningLab) -> None:
    print(f"seed {SEED}: repeat with NETKIT_TEST_SEED={SEED} NETKIT_TEST_KILLS={KILLS}")
    report = survive(lab, KILLS, SEED)
    print(report)
    assert report.acknowledged > 0  # the load was real
    assert report.lines > 0
