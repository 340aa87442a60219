"""Every driver in the tree, and the sample of docs/drivers.md, keep the contract of drivers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netkit.kernel import netns
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.lab.daemons import Daemons
from netkit.lab.openvswitch import OpenVSwitch
from netkit.lab.ovn import NORTHBOUND, SOUTHBOUND, Central, Controller
from netkit.testing.driver_contract import *  # noqa: F403
from netkit.testing.driver_world import NIC, Subject
from plugins.bridge import BINDING, ICC, Bridge
from plugins.host import Host
from plugins.lan import Lan
from plugins.none import Null
from plugins.ovn import Ovn
from plugins.ovs import Ovs
from plugins.weave.driver import Weave

HUB = Path(__file__).parents[2] / "docs/examples/hub"


def _hub() -> object:
    sys.path.insert(0, str(HUB))
    try:
        from netkit_hub import Hub
    finally:
        sys.path.remove(str(HUB))
    return Hub()


SUBJECTS = (
    Subject(name="hub", make=_hub),
    Subject(name="host", make=Host),
    Subject(name="null", make=Null),
    Subject(name="bridge", make=Bridge),
    Subject(name="bridge-apart", make=Bridge, options={ICC: "false", BINDING: "127.0.0.1"}),
    Subject(name="lan", make=Lan, options={"parent": NIC}),
    Subject(name="ovs", make=Ovs),
    Subject(name="ovn", make=Ovn),
    Subject(name="weave", make=Weave),
    Subject(name="weave-sealed", make=Weave, options={"encrypted": "", "expose": "true"}),
)


def chassis(switch: OpenVSwitch) -> list[Daemons]:
    """Make the host a chassis, as an administrator does, of an OVN that is started."""
    central = Central(switch.home, switch.folder / "central")
    central.start()
    north, south = (f"unix:{central.folder}/{name}.sock" for name in (NORTHBOUND, SOUTHBOUND))
    switch.vsctl("add-br", "br-phys", "--", "set", "bridge", "br-phys", "datapath_type=netdev")
    with netns.inside(switch.home):
        subprocess.run(["ip", "addr", "add", "10.99.0.1/24", "dev", "br-phys"], check=True)
    rows = {
        "system-id": "h1", "ovn-remote": south, "ovn-nb": north, "ovn-encap-ip": "10.99.0.1",
        "ovn-encap-type": "geneve", "ovn-bridge-datapath-type": "netdev",
    }  # fmt: skip
    ids = (f"external_ids:{key}={value}" for key, value in rows.items())
    switch.vsctl("set", "Open_vSwitch", ".", *ids)
    controller = Controller(switch)
    controller.start()
    return [controller, central]


@pytest.fixture
def open_vswitch(subject: Subject) -> Iterator[Callable[[str], Ovsdb | None]]:
    if subject.name not in {"ovs", "ovn"}:
        yield lambda home: None
        return
    if shutil.which("ovs-vswitchd") is None:
        pytest.skip("needs openvswitch-switch")
    if subject.name == "ovn" and shutil.which("ovn-controller") is None:
        pytest.skip("needs ovn-central and ovn-host")
    folder = Path(tempfile.mkdtemp(prefix="nk.", dir="/tmp"))
    made: list[Daemons] = []

    def start(home: str) -> Ovsdb:
        switch = OpenVSwitch(home, folder)
        made.append(switch)
        switch.start()
        if subject.name == "ovn":
            made[:0] = chassis(switch)
        return Ovsdb(switch.remote)

    try:
        yield start
    finally:
        for daemons in made:
            daemons.remove()
        shutil.rmtree(folder, ignore_errors=True)
