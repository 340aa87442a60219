"""Choose a host's firewall back end, with the reason.

A host uses one only.  Rules in another are easily overlooked, so `auto` takes the one
already in use, ours included: it stays until the configuration names another.  Nothing is
stored that can be read from the kernel, and detection changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from netkit.errors import InvalidSpec, KernelError
from netkit.kernel import netns
from netkit.kernel.iptables import nft_compat, tools
from netkit.kernel.iptables.tools import TABLES, Variant
from netkit.kernel.netlink.codec import Netlink, Request, attributes

Backend = Literal["iptables-legacy", "iptables-nft", "nftables"]
Requested = Literal["auto", "iptables", "iptables-legacy", "iptables-nft", "nftables"]
CHOICES: tuple[Requested, ...] = get_args(Requested)
TABLE = "netkit"  # of our own back end nftables, in family ip
MARK = re.compile(rb"netkit:[^\0]+")  # the comment of that table
FOLK = re.compile(r"^:(DOCKER|KUBE-)", re.MULTILINE)  # signs of a variant in use
GETTABLE = nft_compat.SUBSYSTEM | 1
TABLE_NAME, TABLE_USERDATA = 1, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    backend: Backend
    reason: str  # a sentence's worth, for people

    @property
    def variant(self) -> Variant | None:
        """The variant of iptables; None for nftables."""
        name = self.backend.removeprefix("iptables-")
        return cast(Variant, name) if name in get_args(Variant) else None


def choose(home: str, requested: str = "auto") -> Choice:
    """Choose the back end for `--firewall-backend REQUESTED` in this namespace.

    InvalidSpec for an unknown back end, KernelError if the tools are not there.
    """
    if requested not in CHOICES:
        raise InvalidSpec(f"unknown firewall back end {requested}: use {', '.join(CHOICES)}")
    if requested in get_args(Backend):
        return _requested(cast(Backend, requested))
    if requested == "auto" and (mark := native(home)):
        return Choice(backend="nftables", reason=f"the table {TABLE} of {mark} is in use")
    there = [v for v in get_args(Variant) if tools.installed(f"iptables-{v}-restore")]
    if there:
        return _variant(home, there)
    if requested == "auto" and tools.installed("nft"):
        return Choice(backend="nftables", reason="iptables is not installed")
    raise KernelError("iptables is not installed: install the package iptables")


def variant(home: str) -> Variant:
    """Return the variant of iptables in use in this namespace, or the default."""
    found = choose(home, "iptables").variant
    assert found is not None
    return found


def native(home: str) -> str:
    """Return the owner of our own nf_tables table; "" if there is none, or it is not ours."""
    with netns.inside(home), Netlink(nft_compat.NETLINK_NETFILTER) as netlink:
        head = nft_compat.HEADER.pack(nft_compat.FAMILIES[4], 0, 0)
        for message in netlink.dump(Request(GETTABLE, head)):
            a = attributes(message, 4)
            if a[TABLE_NAME] != TABLE.encode() + b"\0":
                continue
            if comment := MARK.search(a.get(TABLE_USERDATA, b"")):
                return comment[0].decode(errors="replace")
    return ""


def _requested(backend: Backend) -> Choice:
    program = "nft" if backend == "nftables" else f"{backend}-restore"
    if not tools.installed(program):
        package = "nftables" if backend == "nftables" else "iptables"
        raise KernelError(f"{program} is not installed: install the package {package}")
    return Choice(backend=backend, reason="by --firewall-backend")


def _variant(home: str, there: list[Variant]) -> Choice:
    """Choose the one with rules; of both, that with Docker's or Kubernetes' chains, else nft."""
    if len(there) == 1:
        other = "nft" if there == ["legacy"] else "legacy"
        return _choice(there[0], f"iptables-{other} is not installed")
    legacy, legacy_folk = _legacy(home)
    nft, nft_folk = _nft(home)
    if legacy and nft:
        if legacy_folk and not nft_folk:
            return _choice("legacy", "both variants hold rules, but Docker's chains are here")
        why = "Docker's chains are here" if nft_folk and not legacy_folk else "this one is newer"
        return _choice("nft", f"both variants hold rules, but {why}")
    if legacy or nft:
        return _choice("legacy" if legacy else "nft", "this host's rules are here")
    default: Variant = "legacy" if "legacy" in tools.run(home, ["iptables", "-V"]).stdout else "nft"
    return _choice(default, "no rules yet, and it is this host's iptables")


def _choice(chosen: Variant, reason: str) -> Choice:
    backend: Backend = "iptables-legacy" if chosen == "legacy" else "iptables-nft"
    return Choice(backend=backend, reason=reason)


def _legacy(home: str) -> tuple[bool, bool]:
    """(in use, with Docker's or Kubernetes' chains).  Only existing tables are looked at."""
    text = "\n".join(
        tools.run(home, ["iptables-legacy-save", "-t", t]).stdout
        for t in tools.legacy_tables(home, 4)
    )
    folk = FOLK.search(text) is not None
    return folk or "\n-A " in text, folk


def _nft(home: str) -> tuple[bool, bool]:
    with netns.inside(home), Netlink(nft_compat.NETLINK_NETFILTER) as netlink:
        folk = any(FOLK.search(f":{c}") for t in TABLES for c in nft_compat.chains(netlink, 4, t))
        return folk or any(nft_compat.rules(netlink, 4, t) for t in TABLES), folk
