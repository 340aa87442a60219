"""The network that a configuration means: found by its name, or made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_network

from netkit.errors import AlreadyExists, NotFound
from netkit.frontends.cni.conf import Conf
from netkit.frontends.cni.errors import CONFIGURATION, CniError
from netkit.network.controller import Controller
from netkit.spec import DEFAULT_DRIVER, NetworkRecord, NetworkSpec, SubnetSpec

LABEL = "netkit.origin"  # of networks that were made for a configuration


def ensure(
    networks: Controller, conf: Conf, create: Callable[[NetworkSpec], NetworkRecord]
) -> tuple[NetworkRecord, bool]:
    """Find the network, or make it: then True.  CniError 7 naming the key in which it differs."""
    try:
        record = _named(networks, conf.asked)
    except NotFound:
        if conf.network:
            raise CniError(
                CONFIGURATION,
                f"network {conf.network} not found: netkit network create makes it; without "
                "'network' the configuration makes one of its own name",
            ) from None
        try:
            return create(spec(conf)), True
        except AlreadyExists:  # another container's ADD was quicker
            record = _named(networks, conf.asked)
    refuse_other(conf, record)
    return record, False


def usable(networks: Controller, conf: Conf) -> None:
    """CniError or NotFound if there is no such network, and none can be made."""
    try:
        refuse_other(conf, _named(networks, conf.asked))
    except NotFound:
        if conf.network:
            raise
        networks.check_options(spec(conf))


def _named(networks: Controller, name: str) -> NetworkRecord:
    """By its name alone: that of a configuration may be the beginning of another one's id."""
    found = next((r for r in networks.all() if r.spec.name == name), None)
    if found is None:
        raise NotFound(f"network {name} not found")
    return found


def spec(conf: Conf) -> NetworkSpec:
    """That of the network to make."""
    if (conf.ip_range or conf.gateway) and not conf.subnet:
        raise CniError(CONFIGURATION, "ipRange and gateway need the subnet that they are in")
    subnet = SubnetSpec(subnet=conf.subnet, ip_range=conf.ip_range, gateway=conf.gateway)
    return NetworkSpec(
        name=conf.name,
        driver=conf.driver or DEFAULT_DRIVER,
        subnets=(subnet,) if conf.subnet else (),
        internal=bool(conf.internal),
        scope=conf.scope or "local",
        ipam_driver=conf.ipam_driver or "default",
        options=dict(conf.options or {}),
        labels={LABEL: "cni"},
    )


def refuse_other(conf: Conf, record: NetworkRecord) -> None:
    """CniError 7 naming the first key that does not agree with the network as it is."""
    for key, asked, there in _differing(conf, record):
        raise CniError(
            CONFIGURATION,
            f"network {record.spec.name} exists, and differs in {key}: it has {there!r}, not "
            f"{asked!r}",
        )


def _differing(conf: Conf, record: NetworkRecord) -> Iterator[tuple[str, object, object]]:
    """Of the keys that are given: what is left out is whatever the network has."""
    there = record.spec
    subnet = there.subnets[0] if there.subnets else SubnetSpec()
    driver = conf.driver or ("" if conf.network else DEFAULT_DRIVER)
    asked: list[tuple[str, object, object]] = [
        ("driver", driver, there.driver),
        ("subnet", conf.subnet, subnet.subnet),
        ("ipRange", conf.ip_range, subnet.ip_range),
        ("gateway", conf.gateway, subnet.gateway),
        ("scope", conf.scope, there.scope),
        ("ipamDriver", conf.ipam_driver, there.ipam_driver),
        *((f"options {k}", v, there.options.get(k, "")) for k, v in (conf.options or {}).items()),
    ]
    if conf.internal is not None:
        asked.append(("internal", conf.internal, there.internal))
    return (each for each in asked if each[1] != "" and _plain(each[1]) != _plain(each[2]))


def _plain(value: object) -> object:
    """Subnets and addresses as values: 10.1.0.0/16 may be written as 10.1.0.0/255.255.0.0."""
    with suppress(ValueError):
        return ip_network(str(value))
    return value
