"""netkit's own options of dockerd's networks and address pools.  Pure.

    -o netkit.network=NAME         this network of netkit's, made if there is none
    -o netkit.scope=global         on all hosts of netkit's cluster
    -o netkit.ipam-driver=dhcp     addresses of the segment's DHCP server (--ipam-driver null)
    --ipam-opt netkit.network=NAME addresses of a network that exists
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from netkit.errors import InvalidSpec

PREFIX = "netkit."
NETWORK, SCOPE, IPAM_DRIVER = "netkit.network", "netkit.scope", "netkit.ipam-driver"
OF_NETWORKS = (IPAM_DRIVER, NETWORK, SCOPE)


def joined_network(options: Mapping[str, str]) -> str:
    """Return the network that an IPAM's options name, "" for none.  InvalidSpec for others."""
    for key in options:
        if key != NETWORK:
            raise InvalidSpec(f"unknown option {key[:64]!r} of the IPAM netkit: there is {NETWORK}")
    return options.get(NETWORK, "")


def split(options: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return netkit's own options of a network, and those for its driver.  InvalidSpec."""
    ours = {k: v for k, v in options.items() if k.startswith(PREFIX)}
    check_known(ours, OF_NETWORKS)
    return ours, {k: v for k, v in options.items() if k not in ours}


def check_known(options: Mapping[str, str], known: Collection[str]) -> None:
    for key in sorted(options.keys() - set(known)):
        raise InvalidSpec(f"unknown option {key[:64]!r}: there are {', '.join(sorted(known))}")
