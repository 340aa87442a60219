"""Define the interfaces of network drivers and firewalls.

This package and `netkit.model` are all their authors read; docs/drivers.md has a sample.  A
driver is found through the entry-point group `netkit.drivers`, a firewall through
`netkit.firewall`.  Neither does I/O: they yield the resources that should exist; netkit creates,
checks, repairs and removes them.

    user options --parse--> Network.options
    Network            --Driver.network---> resources      \\
    Network, Endpoint  --Driver.endpoint--> resources       > one desired state
    Network --Driver.policy--> Policy --Firewall.*--> rules /
"""

from netkit.driver.firewall import (
    Firewall,
    NoFirewall,
)
from netkit.driver.network_driver import (
    Distinctive,
    Driver,
    Exclusive,
    HostAware,
    HostFacts,
    MultiHost,
    Overlay,
    OvnFacts,
    SharedSegment,
    SharedSetup,
    Traits,
    traits_of,
)
from netkit.driver.remotes import ovsdb_remotes
from netkit.driver.resources import (
    address_resources,
    derive_mac,
    ifname,
    mac_of,
)
from netkit.driver.values import (
    ANYWHERE,
    IFACE_PREFIX,
    ROUTER,
    Access,
    Endpoint,
    Mode,
    Network,
    OverlayPorts,
    PortMapping,
    RemoteEndpoint,
    Segment,
    Subnet,
    TrafficPolicy,
)

__all__ = [
    "ANYWHERE",
    "IFACE_PREFIX",
    "ROUTER",
    "Access",
    "Distinctive",
    "Driver",
    "Endpoint",
    "Exclusive",
    "Firewall",
    "HostAware",
    "HostFacts",
    "Mode",
    "MultiHost",
    "Network",
    "NoFirewall",
    "Overlay",
    "OverlayPorts",
    "OvnFacts",
    "PortMapping",
    "RemoteEndpoint",
    "Segment",
    "SharedSegment",
    "SharedSetup",
    "Subnet",
    "TrafficPolicy",
    "Traits",
    "address_resources",
    "derive_mac",
    "ifname",
    "mac_of",
    "ovsdb_remotes",
    "traits_of",
]
