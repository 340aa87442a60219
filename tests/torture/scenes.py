"""What is stormed: a lab, what of it is killed, what guests make, and what order is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from netkit.lab.openvswitch import DATABASE, SWITCH
from netkit.lab.ovn import CONTROLLER, NORTHD
from netkit.lab.running import RunningLab
from tests.labs import order
from tests.torture import ovn

DAEMON, SERVER, LEADER, CUT = "netkitd", "server of the cluster", "leader of the cluster", "cut"
HERE = Path(__file__).parent
EXCUSES = (
    r"Open vSwitch (does not answer|at )|ovs-vswitchd|ovs-ofctl|cannot (read|change) the flows"
    r"|the cluster( at \S+)? (does|did) not answer"
    r"|already exists in the cluster"  # by a request that was cut off, and not here yet
)
OVN_EXCUSES = (
    r"|OVN's \w+ database (at \S+ )?(does|did) not answer|OVN does not connect"
    r"|not in force: rule|OVN has no logical switch|ovn-controller"
)


@dataclass(frozen=True, kw_only=True)
class Scene:
    folder: Path
    driver: str
    residents: tuple[str, ...]
    talks: tuple[str, ...]  # the network of each resident's talk with the next one
    kills: tuple[str, ...]  # kinds, each as often as it is here
    kinds: tuple[tuple[str, str | None], ...]  # driver and scope of guests' own networks
    homes: tuple[str, ...]  # where guests' containers begin
    excuses: str  # an expression for refusals that a killed program explains
    nameless: frozenset[str] = frozenset()  # networks without names across hosts
    verdicts: frozenset[str]  # of a trace between residents that reach each other; none: not asked
    in_order: Callable[[RunningLab], None]
    lines: Callable[[RunningLab], Iterator[str]]  # what is shared, besides the cluster's rows
    rules: bool = False  # guests make access rules, and one of a resident is attacked all the time


OVS = Scene(
    folder=HERE / "stormy",
    driver="ovs",
    residents=("r1", "r2", "r3", "r4"),
    talks=("wide", "mesh", "wide", "mesh"),
    kills=(DAEMON, DAEMON, SWITCH, DATABASE, SERVER, LEADER),
    kinds=(("ovs", "global"), ("ovs", "local"), ("bridge", None)),
    homes=("wide", "wide", "mesh", "bridge"),
    excuses=EXCUSES,
    nameless=frozenset({"mesh"}),
    verdicts=frozenset({"DELIVERED"}),
    in_order=order.in_order,
    lines=lambda lab: iter(()),
)
OVN = Scene(
    folder=HERE / "stormy_ovn",
    driver="ovn",
    residents=("r1", "r2", "r3"),
    talks=("wide", "wide", "wide"),
    kills=(DAEMON, SWITCH, DATABASE, CONTROLLER, CONTROLLER, NORTHD, LEADER, CUT,
           *ovn.LEADERS, *ovn.SERVERS),
    kinds=(("ovn", "global"), ("ovn", "global"), ("bridge", None)),
    homes=("wide", "wide", "side", "bridge"),
    excuses=EXCUSES + OVN_EXCUSES,
    verdicts=frozenset(),  # a trace ends at the tunnel, and was seen to say BLOCKED there
    in_order=ovn.in_order,
    lines=ovn.lines,
    rules=True,
)  # fmt: skip
SCENES = {"ovs": OVS, "ovn": OVN}
