"""The result of ADD, section 5 "ADD Success", and what CHECK compares it with.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from netkit.frontends.cni.conf import Conf, Dns
from netkit.frontends.cni.environment import Call
from netkit.frontends.cni.errors import CONFIGURATION, DEVIATION, TAKEN, CniError
from netkit.model import HOST, Link, Resource
from netkit.spec import EndpointRecord

WITH_MTU = ("1.1.0",)  # versions in which an interface has its MTU
WITH_FAMILY = ("0.4.0",)  # in which an address has "version"
Json = dict[str, Any]


def success(
    conf: Conf,
    call: Call,
    record: EndpointRecord,
    resources: Iterable[Resource],
    nameservers: Sequence[str] = (),
) -> bytes:
    """The result as JSON, one line; after that of the plugins before this one (prevResult).

    `resources`: what the endpoint is made of.  `nameservers` unless the configuration has some.
    """
    before = previous(conf)
    interfaces = [*_list(before, "interfaces"), *_interfaces(conf, call, record, resources)]
    ips, routes = _list(before, "ips"), _list(before, "routes")
    gateway = {"gateway": record.gateway} if record.gateway else {}
    family = {"version": "4"} if conf.cni_version in WITH_FAMILY else {}
    for address in record.addresses:
        ips.append({**family, "interface": len(interfaces) - 1, "address": address, **gateway})
    if record.is_default:
        routes.append({"dst": "0.0.0.0/0", "gw": record.gateway})
    shown: Json = {**before, "cniVersion": conf.cni_version, "interfaces": interfaces, "ips": ips}
    if routes:
        shown["routes"] = routes
    shown["dns"] = _dns(conf, before.get("dns"), nameservers)
    return msgspec.json.encode(shown)


def previous(conf: Conf) -> Json:
    """prevResult; {} where there is none.  CniError 7 if it is no result."""
    found = msgspec.json.decode(conf.prev_result)
    if found is None:
        return {}
    lists = ("interfaces", "ips", "routes")
    fine = isinstance(found, dict) and all(
        isinstance(found.get(key) or [], list)
        and all(isinstance(each, dict) for each in found.get(key) or [])
        for key in lists
    )
    if not fine or not isinstance(found.get("dns") or {}, dict):
        raise CniError(CONFIGURATION, "prevResult is no result of a plugin")
    return dict(found)


def refuse_taken(conf: Conf, call: Call) -> None:
    """CniError 100 if a plugin before this one has made the container's interface."""
    for each in _list(previous(conf), "interfaces"):
        if each.get("name") == call.ifname and each.get("sandbox"):
            raise CniError(
                TAKEN,
                f"prevResult has an interface {call.ifname} in the container already: netkit makes "
                "the container's interface, so it has to be the first plugin, or have another name",
            )


def check(conf: Conf, call: Call, record: EndpointRecord) -> None:
    """CniError unless prevResult has the interface and the addresses that ADD reported."""
    result = previous(conf)
    if not result:
        raise CniError(CONFIGURATION, "CHECK needs the prevResult of ADD")
    numbers = [
        n for n, each in enumerate(_list(result, "interfaces"))
        if each.get("name") == call.ifname and each.get("sandbox")
    ]  # fmt: skip
    if not numbers:
        raise CniError(DEVIATION, f"prevResult has no interface {call.ifname} in the container")
    reported = {
        each.get("address") for each in _list(result, "ips") if each.get("interface") in numbers
    }
    if missing := sorted(set(record.addresses) - reported):
        raise CniError(
            DEVIATION, f"{call.ifname} has address {missing[0]}, which prevResult does not have"
        )


def _list(result: Mapping[str, Any], key: str) -> list[Json]:
    return list(result.get(key) or [])


def _interfaces(
    conf: Conf, call: Call, record: EndpointRecord, resources: Iterable[Resource]
) -> Iterator[Json]:
    """The bridge, the host's end, and the container's, as far as the driver has them."""
    mtu: Json = {}
    names: list[str] = []
    for each in resources:
        if isinstance(each, Link) and each.ns == HOST and each.peer is not None:
            names += filter(None, (each.master, each.name))
        elif (bridge := getattr(each, "bridge", "")) and getattr(each, "attached", False):
            names.insert(0, bridge)  # a switch's port
        if isinstance(each, Link) and each.mtu and conf.cni_version in WITH_MTU:
            mtu = {"mtu": each.mtu}
    for name in dict.fromkeys(names):
        yield {"name": name, **mtu}
    yield {"name": call.ifname, "mac": record.mac, **mtu, "sandbox": call.netns}


def _dns(conf: Conf, before: Mapping[str, Any] | None, nameservers: Sequence[str]) -> Json:
    asked, runtime = conf.dns, conf.runtime_config.dns
    if runtime is not None:
        asked = Dns(runtime.servers, asked.domain, runtime.searches, runtime.options)
    shown: Json = {k: v for k, v in msgspec.to_builtins(asked).items() if v}
    if "nameservers" not in shown and nameservers:
        shown["nameservers"] = list(nameservers)
    return {**(before or {}), **shown}
