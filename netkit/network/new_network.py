"""From what users ask of a new network to its first form: checked, read by its driver.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from netkit.driver import Driver, MultiHost, Network, SharedSegment, Subnet
from netkit.errors import InvalidSpec
from netkit.ipam.pools import parse_subnets
from netkit.network.remote import SCOPE_GLOBAL
from netkit.network.validation import DHCP, wants_any_subnet
from netkit.spec import NetworkSpec


def requested_subnets(spec: NetworkSpec, driver: Driver) -> Sequence[Subnet]:
    """Return those that the user names; InvalidSpec where the driver takes others, or none."""
    wanted = parse_subnets(spec.subnets) if not wants_any_subnet(spec) else ()
    if driver.uses_ipam and len(wanted) > 1:
        raise InvalidSpec(f"{spec.driver} driver doesn't support multiple subnets")
    if not wanted and isinstance(driver, SharedSegment) and spec.ipam_driver != DHCP:
        raise InvalidSpec("say --subnet as the segment has it, or --ipam-driver dhcp")
    if wanted and not driver.uses_ipam:
        raise InvalidSpec(f"the {spec.driver} driver takes no subnets")
    return wanted


def new_network(id: str, spec: NetworkSpec, driver: Driver, engine: str) -> Network:
    """Return the network without subnets yet; InvalidSpec for options that its driver refuses."""
    net = Network(
        id=id,
        name=spec.name,
        driver=spec.driver,
        internal=spec.internal,
        options=driver.parse(spec.options),
        engine=engine,
        shared=spec.scope == SCOPE_GLOBAL,
    )
    if isinstance(driver, MultiHost) and net.shared:
        driver.check_span(net)
    return net
