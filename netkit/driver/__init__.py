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
    Founded,
    HostAware,
    HostFacts,
    OnSegment,
    Spanning,
    Traits,
    traits_of,
)
from netkit.driver.resources import (
    addressed,
    ifname,
    local_mac,
)
from netkit.driver.values import (
    ANYWHERE,
    IFACE_PREFIX,
    ROUTER,
    Access,
    Endpoint,
    Known,
    Mode,
    Network,
    Policy,
    PortMapping,
    Segment,
    Subnet,
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
    "Founded",
    "HostAware",
    "HostFacts",
    "Known",
    "Mode",
    "Network",
    "NoFirewall",
    "OnSegment",
    "Policy",
    "PortMapping",
    "Segment",
    "Spanning",
    "Subnet",
    "Traits",
    "addressed",
    "ifname",
    "local_mac",
    "traits_of",
]
