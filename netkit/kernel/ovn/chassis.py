"""This host as a chassis of OVN, in Open vSwitch's row.

What netkit wrote into the row it may change; what was there before is the administrator's.
Source: ovn-controller(8), "CONFIGURATION".
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address

from netkit.errors import Conflict, InvalidSpec, KernelError
from netkit.kernel.adapter import Adapter
from netkit.kernel.ovn.databases import ENCAP_KEY, NAME_KEY, NB_KEY, SB_KEY, Databases
from netkit.kernel.ovs.idl import Copy, rows
from netkit.kernel.ovs.ovsdb import Ovsdb, root
from netkit.kernel.ovs.tunnel_routes import address_holder
from netkit.kernel.session import Session
from netkit.model import IPAddress, Key, Resource
from netkit.model.ovn import CHASSIS, INTEGRATION, NORTHBOUND, Chassis, Northbound, chassis_name
from netkit.reconcile.plan import Op

OURS = "netkit-ovn"  # key in external_ids: the keys that netkit set, with commas
TYPE_KEY, DATAPATH_KEY = "ovn-encap-type", "ovn-bridge-datapath-type"
ENCAPSULATION = "geneve"
PATIENCE = 5.0  # seconds until ovn-controller must have made its bridge


class ChassisRows:
    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._db = databases.local

    def adapter(self) -> Adapter:
        return Adapter(
            types=(Chassis, Northbound),
            kinds=frozenset({"ovnchassis", "ovnnorthbound"}),
            observe=self.observe,
            apply=self.apply,
        )

    def observe(self, session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        wanted = set(keys)
        ids = self._databases.ids()
        out: dict[Key, Resource] = {}
        if CHASSIS in wanted and ids.get(SB_KEY) and ids.get(ENCAP_KEY) and ids.get(NAME_KEY):
            out[CHASSIS] = self._chassis(session, ids)
        if NORTHBOUND in wanted and ids.get(NB_KEY):
            out[NORTHBOUND] = Northbound(remote=ids[NB_KEY])
        return out

    def _chassis(self, session: Session, ids: Mapping[str, str]) -> Chassis:
        bridge, own = self._db.view(_bridge_and_devices)
        end = ip_address(ids[ENCAP_KEY].partition(",")[0])
        return Chassis(
            southbound=ids[SB_KEY],
            encap_ip=end,
            userspace=bridge == "netdev",
            integrated=bridge is not None,
            tunnels=bridge != "netdev" or ours(ids, ENCAP_KEY) or _holder(session, end) in own,
        )

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        """Set in order; what would be deleted stays.  KernelError has how many are done."""
        for done, op in enumerate(ops):
            try:
                match op.after:
                    case Chassis() as chassis:
                        self._set_chassis(session, chassis)
                    case Northbound(remote=remote):
                        self._set({NB_KEY: remote})
            except KernelError as error:
                error.done = done
                raise

    def _set_chassis(self, session: Session, want: Chassis) -> None:
        ids = self._databases.ids()
        if want.southbound is None or want.encap_ip is None:
            _require(ids)
        else:
            _refuse_elsewhere(session, want.encap_ip)
            name = ids.get(NAME_KEY) or chassis_name(self._databases.engine)
            self._set(
                {
                    NAME_KEY: name,
                    SB_KEY: want.southbound,
                    ENCAP_KEY: str(want.encap_ip),
                    TYPE_KEY: ids.get(TYPE_KEY) or ENCAPSULATION,
                    DATAPATH_KEY: "netdev" if want.userspace else "system",
                }
            )
        self._await_bridge(want)
        ids = self._databases.ids()
        found = self._chassis(session, ids)
        if not found.tunnels:
            raise InvalidSpec(_dead_end(found.encap_ip))

    def _set(self, want: Mapping[str, str]) -> None:
        """Conflict for a key that is set otherwise, and not by netkit."""
        ids = self._databases.ids()
        for key, value in want.items():
            if ids.get(key, value) != value and not ours(ids, key):
                raise Conflict(
                    f"this host's Open vSwitch has external_ids:{key}={ids[key]} already, not "
                    f"{value}, and a host is of one OVN: give netkit the same, or change it with "
                    "ovs-vsctl"
                )
        new = sorted({*ids.get(OURS, "").split(","), *(k for k in want if k not in ids)} - {""})
        changes = {**want, OURS: ",".join(new)}
        if all(ids.get(k) == v for k, v in changes.items()):
            return
        self._db.change(lambda idl, _: _put(idl, changes), wait=False)

    def _await_bridge(self, want: Chassis) -> None:
        """ovn-controller makes its bridge, and changes its datapath as the row says."""
        deadline = time.monotonic() + PATIENCE
        with changes_of(self._db) as changed:
            while not _is_there(found := self._db.view(_bridge_and_devices)[0], want):
                if time.monotonic() > deadline:
                    raise KernelError(_without_bridge(found, want))
                changed.wait(0.1)
                changed.clear()


@contextmanager
def changes_of(database: Ovsdb) -> Iterator[threading.Event]:
    """An event that is set whenever the database has changed."""
    event = threading.Event()
    database.changed.append(event.set)
    try:
        yield event
    finally:
        database.changed.remove(event.set)


def ours(ids: Mapping[str, str], key: str) -> bool:
    """Whether netkit set this key of external_ids."""
    return key in ids.get(OURS, "").split(",")


def _is_there(datapath: str | None, want: Chassis) -> bool:
    return datapath is not None and (datapath == "netdev") == want.userspace


def _without_bridge(datapath: str | None, want: Chassis) -> str:
    if datapath is None:
        return (
            f"Open vSwitch has no bridge {INTEGRATION}: is ovn-controller running? (install "
            "ovn-host)"
        )
    needed = "netdev" if want.userspace else "system"
    return (
        f"bridge {INTEGRATION} has datapath {datapath or 'system'}, and this host's kernel needs "
        f"{needed}: ovs-vsctl set Open_vSwitch . external_ids:{DATAPATH_KEY}={needed}; is "
        "ovn-controller running?"
    )


def _put(idl: Copy, ids: Mapping[str, str]) -> None:
    row = root(idl)
    row.external_ids = {**row.external_ids, **ids}


def _bridge_and_devices(idl: Copy) -> tuple[str | None, frozenset[str]]:
    """The datapath of ovn-controller's bridge, None without it; and the host's devices that Open
    vSwitch makes or has."""
    kinds = {row.name: str(row.datapath_type) for row in rows(idl, "Bridge")}
    own = {row.name for row in rows(idl, "Interface") if row.type in {"", "internal"}}
    return kinds.get(INTEGRATION), frozenset({*own, *kinds})


def _holder(session: Session, address: IPAddress) -> str:
    link = address_holder(session, address)
    return link.name if link is not None else ""


def _require(ids: Mapping[str, str]) -> None:
    missing = [key for key in (SB_KEY, ENCAP_KEY, NAME_KEY) if not ids.get(key)]
    if missing:
        raise Conflict(
            f"this host is no chassis of OVN: start netkitd with --ovn-sb and --ovn-encap-ip, or "
            f"set external_ids:{', '.join(missing)} of Open vSwitch"
        )


def _refuse_elsewhere(session: Session, end: IPAddress) -> None:
    if not _holder(session, end):
        raise InvalidSpec(
            f"--ovn-encap-ip {end}: no interface of this host has that address, so tunnels to it "
            "would end nowhere"
        )


def _dead_end(end: IPAddress | None) -> str:
    return (
        f"tunnels to {end} cannot work: the datapath is in user space, and no interface of Open "
        "vSwitch has that address (external_ids:ovn-encap-ip).  Start netkitd with --ovn-encap-ip "
        f"{end}, or move the address to a bridge of Open vSwitch"
    )
