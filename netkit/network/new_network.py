"""From what users ask of a new network to its first form: checked, read by its driver.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network

from netkit.driver import Driver, MultiHost, Network, SharedSegment, Subnet, traits_of
from netkit.errors import InvalidSpec
from netkit.ipam.pools import SubnetOverlap, UsedSubnet, check_overlap, parse_subnets
from netkit.model import IPNetwork
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


def check_subnet(
    spec: NetworkSpec, driver: Driver, wanted: IPNetwork, taken: Iterable[UsedSubnet],
    drivers: Mapping[str, str],
) -> None:  # fmt: skip
    """SubnetOverlap: another network has some of these addresses.  `drivers`: of networks, by name.

    Networks of an overlay may be inside of the subnet of its default network, the one called as the
    driver is: hosts agree on addresses of all of that range, so none is given out twice.
    """
    if not traits_of(driver).overlay:
        check_overlap(wanted, taken)
        return
    for used in taken:
        same = drivers.get(used.network) == spec.driver
        outer, inner = (used.cidr, wanted) if used.network == spec.driver else (wanted, used.cidr)
        default = spec.driver in {used.network, spec.name}
        if same and default and _strictly_within(inner, outer):
            continue
        try:
            check_overlap(wanted, [used])
        except SubnetOverlap as overlap:
            remedy = _remedy(spec, used, default=same and default)
            raise SubnetOverlap(f"{overlap}: {remedy}") from None


def _strictly_within(inner: IPNetwork, outer: IPNetwork) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner != outer and inner.subnet_of(outer)
    return False


def _remedy(spec: NetworkSpec, used: UsedSubnet, *, default: bool) -> str:
    if default and spec.name == spec.driver:
        return f"launch with a larger range, or one apart from it, or remove network {used.network}"
    within = f"smaller than {used.cidr} or apart from it" if default else f"apart from {used.cidr}"
    return f"use --subnet with one that is {within}"
