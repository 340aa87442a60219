"""What a network driver is, and what it may have besides: see netkit.driver."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import ClassVar, Protocol, runtime_checkable

from netkit.driver.values import Endpoint, Network, OverlayPorts, Segment, TrafficPolicy
from netkit.model import Resource
from netkit.model.layout import PortSecurity


@runtime_checkable
class SharedSegment(Protocol):
    """A driver whose networks share a segment with foreign hosts: addresses are probed there."""

    def segment(self, net: Network) -> Segment: ...


class Driver(Protocol):
    """How one kind of network looks on a host.  All methods are pure.

    The class is the entry point: it is called without arguments, once a daemon.  A method gets
    all it may use as arguments and answers the same whenever it is asked: netkit compares what it
    yields with the host at each create, connect, disconnect, remove, check, repair and start.  It
    raises InvalidSpec (the caller's fault, HTTP 400) or NotSupported (501), nothing else.

    What else a driver may have is in the protocols here: HostAware, SharedSegment, SharedSetup,
    Exclusive, MultiHost, Overlay, Distinctive.
    """

    name: ClassVar[str]  # of `--driver NAME`: as in the entry point
    # All names that `parse` reads: a name near one of these is refused as a misspelling, any
    # other has no effect and is warned of (netkit.network.driver_options).  A mapping has for
    # each its purpose and default, for `net create --help`.
    options: ClassVar[Collection[str]]
    uses_ipam: ClassVar[bool]  # does netkit's IPAM give out addresses here?  Else there are none
    supports_port_mapping: ClassVar[
        bool
    ]  # do published ports make sense here?  Else `-p` is an error

    def parse(self, options: Mapping[str, str]) -> object:
        """Read user options, as `-o KEY=VALUE` gives them, into a value with ==: Network.options.

        InvalidSpec names the bad option and the valid values.  There may be others besides,
        which have no effect.  Called again with the stored options at each start of the daemon.
        """
        ...

    def policy(self, net: Network) -> TrafficPolicy | None:
        """Return what the firewall is to enforce; None for no rules at all.

        Without a policy no rule is made: no masquerading, no published ports, no `netkit fw`.
        May be asked before the network has subnets.  InvalidSpec for a combination of options
        that cannot be, such as one with --internal.
        """
        ...

    def network(self, net: Network) -> Iterable[Resource]:
        """List what the host needs for this network to exist, without any container on it.

        Each has the owner `net.owner`, and is removed with the network; or no owner, and then it
        must exist already: it is never made, changed or removed.  The order does not matter,
        `Resource.needs` does.  A link name of a driver's choice is unique per network: `ifname`.
        """
        ...

    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        """List what is needed for one container to be on it, on both ends of the wire.

        Each has the owner `ep.owner(net)`, and is removed with the endpoint, unless it is of the
        network as well.  The namespace `ep.ns` exists; the link that the container uses is made
        in it with the name `ep.ifname` and the address `ep.mac`.  `address_resources` has the rest.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What is true of all networks of a driver; the defaults are true of most drivers'."""

    single_instance: bool = False  # one network of it exists, predefined; users create none
    needs_host_namespace: bool = False  # its containers, and no others, are in the host's namespace
    exclusive: bool = False  # a container on it is on no other network
    openvswitch: bool = False  # its bridges, ports and flows are in Open vSwitch's database
    changeable: frozenset[str] = frozenset()  # options that may change while containers are there
    port_security: PortSecurity | None = None  # its tables that check frames at bridge ports
    any_address: bool = False  # endpoints may have several addresses, of other subnets as well
    domain: str = ""  # names are found in NETWORK.DOMAIN too; if called as the driver, in DOMAIN
    overlay: bool = False  # hosts agree on addresses by the overlay's process


@runtime_checkable
class Distinctive(Protocol):
    """A driver with traits that differ from the defaults."""

    traits: ClassVar[Traits]


_USUAL = Traits()


def traits_of(driver: object) -> Traits:
    """Return the traits that a driver declares, else the defaults."""
    # As isinstance(driver, Distinctive), which takes 7 us, not 0.05: each start asks often.
    found: Traits = getattr(driver, "traits", _USUAL)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OvnFacts:
    """The OVN that netkitd is to make this host a chassis of; "" and None: of none."""

    northbound: str = ""  # as `ovsdb_remotes` has it
    southbound: str = ""
    encap_ip: IPv4Address | None = None  # of this host, where tunnels of others end


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """Facts of the host that a driver may depend on."""

    openvswitch: bool = False  # the kernel has the datapath of Open vSwitch
    ovn: OvnFacts = OvnFacts()


@runtime_checkable
class HostAware(Protocol):
    """A driver that adapts to the host."""

    def configure_for(self, host: HostFacts) -> Driver: ...


@runtime_checkable
class MultiHost(Protocol):
    """A driver with networks on all hosts of a cluster, by `peers` and `remote_endpoints`."""

    def check_span(self, net: Network) -> None:
        """InvalidSpec if an option does not go with that."""
        ...


@runtime_checkable
class Overlay(Protocol):
    """A driver whose networks reach other hosts by the overlay's process (netkit.overlay).

    The overlay's core has the name of the driver, in the entry-point group `netkit.overlays`.
    """

    def overlay(self, net: Network) -> OverlayPorts: ...


@runtime_checkable
class Exclusive(Protocol):
    """A driver whose networks own more than their link exclusively."""

    def claims(self, net: Network) -> Iterable[str]:
        """What, for people: "gre tunnels to 192.0.2.1 with key 5".  Before there are subnets."""
        ...


@runtime_checkable
class SharedSetup(Protocol):
    """A driver whose networks share resources on the host."""

    def setup(self, owner: str) -> Iterable[Resource]:
        """Resources that all its networks need.  They stay without any, until the next start."""
        ...
