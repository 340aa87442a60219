"""Every driver in the tree, and the sample of docs/drivers.md, keep the contract of drivers."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.lab.openvswitch import OpenVSwitch
from netkit.testing.driver_contract import *  # noqa: F403
from netkit.testing.driver_world import NIC, Subject
from plugins.bridge import BINDING, ICC, Bridge
from plugins.host import Host
from plugins.lan import Lan
from plugins.none import Null
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
    Subject(name="weave", make=Weave),
    Subject(name="weave-sealed", make=Weave, options={"encrypted": "", "expose": "true"}),
)


@pytest.fixture
def open_vswitch(subject: Subject) -> Iterator[Callable[[str], Ovsdb | None]]:
    if subject.name != "ovs":
        yield lambda home: None
        return
    if shutil.which("ovs-vswitchd") is None:
        pytest.skip("needs openvswitch-switch")
    folder = Path(tempfile.mkdtemp(prefix="nk.", dir="/tmp"))
    made: list[OpenVSwitch] = []

    def start(home: str) -> Ovsdb:
        made.append(OpenVSwitch(home, folder))
        made[0].start()
        return Ovsdb(made[0].remote)

    try:
        yield start
    finally:
        for switch in made:
            switch.remove()
        shutil.rmtree(folder, ignore_errors=True)
