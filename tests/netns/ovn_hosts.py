"""Several hosts as in `ovs_hosts`, each a chassis of one OVN.

Databases are reached by unix sockets, which are not of a network namespace: netkit's part of a host
runs in this process, outside of the host's.  Tunnels go over the wire.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from netkit.driver import OvnFacts
from netkit.kernel import netns
from netkit.lab.ovn import NORTHBOUND, SOUTHBOUND, Central, Controller
from plugins.ovn import Ovn
from tests.netns.ovs_hosts import OvsHost, hosts


@dataclass
class Cloud:
    central: Central
    hosts: list[OvsHost]
    controllers: list[Controller]

    def rows(self, table: str, *conditions: str) -> list[str]:
        """The names of those of the northbound database, as ovn-nbctl(8) `find` has conditions."""
        text = self.central.nbctl("--bare", "--columns=name", "find", table, *conditions)
        return sorted(filter(None, text.split("\n")))


@contextmanager
def cloud(count: int, folder: Path) -> Iterator[Cloud]:
    """`count` hosts, and the servers in a namespace without a network."""
    controllers: list[Controller] = []
    place = Path(tempfile.mkdtemp(prefix="nk.", dir="/tmp"))
    northbound, southbound = (f"unix:{place}/{name}.sock" for name in (NORTHBOUND, SOUTHBOUND))

    def driver(n: int) -> Ovn:
        end = IPv4Address(f"10.9.0.{n}")
        facts = OvnFacts(northbound=northbound, southbound=southbound, encap_ip=end)
        return Ovn(facts, userspace=True)

    home = f"/run/netns/nk-{secrets.token_hex(3)}c"
    netns.create(home)
    central = Central(home, place)
    try:
        central.start()
        with hosts(count, folder, more=driver) as found:
            controllers += [Controller(h.vswitch) for h in found]
            for controller in controllers:
                controller.start()
            yield Cloud(central, found, controllers)
            for h in found:
                h.close_all()
    finally:
        for controller in controllers:
            controller.stop()
        central.remove()
        netns.remove(home)
