"""Networks of a compose file, and which of them a service joins.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from netkit.lab.foreign.compose_values import NAME, Values
from netkit.lab.foreign.shell import NO_IPV6
from netkit.lab.schema import Path

DEFAULT = "default"  # compose's own network; the engine has another meaning for the name
OURS = "default_net"
OPTIONS = frozenset({"com.docker.network.driver.mtu", "com.docker.network.bridge.enable_icc"})


BLOCK: Mapping[str, Callable[[str], object]] = {
    "subnet": IPv4Network, "gateway": IPv4Address, "ip_range": IPv4Network,
}  # fmt: skip


class Networks:
    """`made`: networks of lab.yml by name."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.made: dict[str, dict[str, Any]] = {}
        self._taken: set[tuple[str, str]] = set()  # network, address
        for name in values.origin.mapping("networks"):
            if (network := self._network(name)) is not None:
                self.made[OURS if name == DEFAULT else name] = network

    def _network(self, name: str) -> dict[str, Any] | None:
        at: Path = ("networks", name)
        given = self.values.origin.mapping(*at)
        if not NAME.fullmatch(name) or name in {"bridge", "host", "none"}:
            self.values.omit(at, "no name for a network here")
            return None
        self.values.origin.use(*at, "attachable")  # all of one host are
        out: dict[str, Any] = {}
        driver = self.values.use(*at, "driver")
        if driver not in {"", "bridge"}:
            self.values.omit((*at, "driver"), f"the driver {driver}: bridge is in its place")
        if self.values.true(*at, "internal"):
            out["internal"] = True
        if "enable_ipv4" in given and not self.values.true(*at, "enable_ipv4"):
            self.values.omit((*at, "enable_ipv4"), "networks here have IPv4")
        known = [k for k in self.values.origin.mapping(*at, "driver_opts") if k in OPTIONS]
        if known:
            out["options"] = {k: self.values.use(*at, "driver_opts", k) for k in known}
        return out | self._addresses((*at, "ipam"))

    def _addresses(self, at: Path) -> dict[str, str]:
        """Of the first IPv4 block of ipam."""
        out: dict[str, str] = {}
        if self.values.origin.mapping(*at) and self.values.origin.at(*at, "driver") == "default":
            self.values.origin.use(*at, "driver")
        for n in range(len(self.values.origin.items(*at, "config"))):
            block = (*at, "config", n)
            self.values.origin.mapping(*block)
            subnet = self.values.text(self.values.origin.at(*block, "subnet"), block)
            if ":" in subnet:
                self.values.omit(block, NO_IPV6)
            elif out:
                self.values.omit(block, "a network has one subnet here")
            else:
                for key, check in BLOCK.items():
                    text = self.values.use(*block, key)
                    if text and self.values.checked(text, check, (*block, key)):
                        out[key] = text
        return out

    def join(self, service: str, name: str) -> tuple[dict[str, str | None], list[str]]:
        """The networks of a service, to its addresses there, and flags for its aliases.

        `name` is that of its container.
        """
        at: Path = ("services", service, "networks")
        given = self.values.origin.at(*at)
        joined: dict[str, str | None] = {}
        aliases: dict[str, list[str]] = {}
        for n, network in enumerate(given if isinstance(given, list | dict) else ()):
            where = (*at, n) if isinstance(given, list) else (*at, network)
            ours = OURS if network == DEFAULT else str(network)
            if ours not in self.made and ours != OURS:
                self.values.omit(where, "there is no such network here")
                continue
            joined[ours] = None
            if isinstance(given, list) or given[network] is None:
                self.values.origin.use(*where)
            else:
                self.values.origin.mapping(*where)
                joined[ours] = self._address(ours, (*where, "ipv4_address"))
                aliases[ours] = self.values.listed(where, "aliases")
        if not joined and self.values.origin.at("services", service, "network_mode") is None:
            joined[OURS] = None
        if OURS in joined:
            self.made.setdefault(OURS, {})
        if name != service and joined:
            aliases.setdefault(next(iter(joined)), []).append(service)
        return joined, list(self._aliases(list(joined), aliases, at))

    def _address(self, network: str, at: Path) -> str | None:
        """A fixed one, where the engine would allocate it."""
        text = self.values.use(*at)
        if not text or not self.values.checked(text, IPv4Address, at):
            return None
        subnet = self.made.get(network, {}).get("subnet")
        if subnet is None or IPv4Address(text) not in IPv4Network(subnet):
            self.values.omit(at, f"the network has no subnet with {text}")
        elif (network, text) in self._taken:
            self.values.omit(at, f"{text} is taken already")
        else:
            self._taken.add((network, text))
            return text
        return None

    def _aliases(self, joined: list[str], given: dict[str, list[str]], at: Path) -> Iterator[str]:
        wanted = list(dict.fromkeys(given.get(joined[0], []))) if joined else []
        for alias in wanted:
            if NAME.fullmatch(alias):
                yield f"--network-alias={alias}"
            else:
                self.values.note(at, f"the alias {alias!r} is no name")
        for name in joined[1:]:
            if more := [alias for alias in given.get(name, ()) if alias not in wanted]:
                why = "a container has aliases on its first network only"
                self.values.note((*at, name, "aliases"), f"{', '.join(more)}: {why}")
