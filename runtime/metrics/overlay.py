"""The weave overlay, as its process reports it (`netkit weave status`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from runtime.metrics.figures import Figures, by, many, one

_UNKNOWN = "other"  # what is not one of the words that are known: values of labels stay few
STATES = ("alive", "suspect", "dead")
CONNECTIONS = ("established", "connecting", "retrying", "failed")
WAYS = ("fastdp", "sleeve", "relay", "none")


def overlay(status: Callable[[], Mapping[str, Any]]) -> Iterator[Figures]:
    """`status` answers as `GET /netkit/weave`; see runtime.network.weave.service."""
    found = status()
    yield one("netkit_overlay_launched", bool(found["Launched"]))
    yield one("netkit_overlay_up", bool(found["Running"]))
    if not found["Running"]:
        return
    now = found["Status"]
    states = Counter(_known(each["state"], STATES) for each in now["peers"])
    yield by("netkit_overlay_peers", {**dict.fromkeys(STATES, 0), **states})
    yield many("netkit_overlay_connections", Counter(
        (_known(c["state"], CONNECTIONS), _known(c["way"], WAYS), str(c["encrypted"]).lower())
        for c in now["connections"]
    ))  # fmt: skip
    yield by("netkit_overlay_dropped_datagrams_total", now["dropped"])
    yield one("netkit_overlay_names", len(now["names"]))
    yield one("netkit_overlay_warnings", len(now["warnings"]) + len(found["Warnings"]))
    yield from _addresses(now["ipam"])


def _addresses(ipam: Mapping[str, Any]) -> Iterator[Figures]:
    size = ip_network(ipam["range"]).num_addresses if ipam["range"] else 0
    yield one("netkit_overlay_ipam_addresses", size)
    yield one("netkit_overlay_ipam_allocated_addresses", ipam["active"])
    yield one("netkit_overlay_ipam_unreachable_ratio", ipam["unreachable"])
    yield one("netkit_overlay_ipam_fenced", ipam["fenced"] is not None)


def _known(word: str, words: tuple[str, ...]) -> str:
    return word if word in words else _UNKNOWN
