"""Render a container's /etc/hosts and /etc/resolv.conf, and write them in place."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from pathlib import Path

from netkit.errors import InvalidSpec
from netkit.gone import if_there
from netkit.spec import EndpointRecord
from runtime.filetree.small_file import content

HOST_GATEWAY = "host-gateway"  # in --add-host: the host's address for containers
RESOLVER = "127.0.0.11"  # the embedded resolver's address, as in Docker
STUB = "127.0.0.53"  # systemd-resolved on the host's own loopback
GOOGLE = ("8.8.8.8", "8.8.4.4")  # Docker's fallback on its default network

MODE = 0o644  # of each of these files

# Docker's skeleton, libnetwork/etchosts
_IPV4 = (("127.0.0.1", "localhost"),)
_IPV6 = (
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


def render_hosts(
    *,
    hostname: str,
    domainname: str,
    extra_hosts: Sequence[str],
    host_gateway: str,
    endpoints: Sequence[EndpointRecord],
    links: Sequence[tuple[str, str]] = (),
    ipv6: bool = False,
) -> str:
    """The text of /etc/hosts.  Without `ipv6` no line has an IPv6 address, as with Docker.

    `links` are (address, names) of linked containers.  `host_gateway` replaces "host-gateway";
    InvalidSpec if it is needed and "".
    """
    lines = [*_IPV4, *(_IPV6 if ipv6 else ())]
    for text in extra_hosts:
        name, address = parse_extra_host(text)
        if address == HOST_GATEWAY:
            address = _gateway(host_gateway)
        if ipv6 or ip_address(address).version == 4:
            lines.append((address, name))
    lines += links
    own = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    if hostname:
        lines += [(str(ip_interface(e.address).ip), own) for e in endpoints if e.address]
    return "".join(f"{address}\t{names}\n" for address, names in lines)


def parse_extra_host(text: str) -> tuple[str, str]:
    """(name, address or "host-gateway") of `--add-host`: NAME:IP or NAME=IP, IP also in [].

    InvalidSpec in the words of docker's opts.ValidateExtraHost.
    """
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not found or not name or ":" in name or not _one_word(name):
        raise InvalidSpec(f"bad format for add-host: {json.dumps(text)}")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != HOST_GATEWAY and _address(address) is None:
        raise InvalidSpec(f"invalid IP address in add-host: {json.dumps(address)}")
    return name, address


def render_resolv_conf(
    host_text: str,
    *,
    dns: Sequence[str],
    search: Sequence[str],
    options: Sequence[str],
    embedded: bool,
    shares_host: bool = False,
) -> tuple[str, list[str]]:
    """(text of resolv.conf, upstream servers for names that are not containers').

    `dns`, `search` (["."]: none) and `options` override the host's file unless they are empty.
    `embedded`: the container uses the embedded resolver, which forwards from the host's namespace,
    where loopback servers of the host are reachable.  Otherwise the container queries them itself,
    and loopback servers are left out unless it `shares_host`'s namespace.
    InvalidSpec for a server that is no address, or a value that would inject a line.
    """
    for value in (*search, *options):
        if not _one_word(value):
            raise InvalidSpec(f"invalid DNS search domain or option: {json.dumps(value)}")
    has = _parse(host_text)
    servers = [_checked(s) for s in dns] or [s for s in has["nameserver"] if s != RESOLVER]
    domains = [d for d in search or has["search"] if d != "."]
    chosen = list(options or has["options"])
    if embedded:
        if not any(_is_ndots(o) for o in chosen):
            chosen.append("ndots:0")  # as Docker: else short names get a search domain first
        text = _text([RESOLVER], domains, chosen)
        asked = " ".join(f"host({s})" for s in servers)
        return f"{text}\n# ExtServers: [{asked}]\n", servers
    if not dns and not shares_host:
        servers = [s for s in servers if _reachable(s)] or list(GOOGLE)
    return _text(servers, domains, chosen), servers


def host_resolv_text(
    host: Path = Path("/etc/resolv.conf"),
    real: Path = Path("/run/systemd/resolve/resolv.conf"),
) -> str:
    """The text with the host's servers: that of `real` if `host` only has systemd-resolved's stub.

    "" where there is none.  OSError if it cannot be read.
    """
    text = ""
    with if_there():
        text = content(host).decode(errors="replace")
        if _parse(text)["nameserver"] == [STUB]:
            text = content(real).decode(errors="replace")
    return text


def write_in_place(path: Path | str, text: str) -> None:
    """Overwrite a file in place: it is bind-mounted, so a rename would not be seen inside.

    A concurrent reader gets the new text, perhaps followed by empty lines; never an empty file
    or the rest of an old line.  All users of the container may read it, whatever the umask.
    """
    new = text.encode()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    try:
        before = os.fstat(fd)
        if stat.S_IMODE(before.st_mode) != MODE:
            os.fchmod(fd, MODE)
        size = before.st_size
        if size == len(new) and os.pread(fd, size, 0) == new:
            return
        # Padded to the old length first and truncated last: see above.
        rest = new.ljust(size, b"\n")
        offset = 0
        while offset < len(rest):
            offset += os.pwrite(fd, rest[offset:], offset)
        os.ftruncate(fd, len(new))
    finally:
        os.close(fd)


def _parse(text: str) -> dict[str, list[str]]:
    """Parse a resolv.conf(5): the last `search` or `domain` applies."""
    has: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or line[0] in "#;":
            continue
        match words[0]:
            case "nameserver" if _address(words[1]) is not None:
                has["nameserver"].append(words[1])
            case "search" | "domain":
                has["search"] = words[1:]
            case "options":
                has["options"] += words[1:]
    return has


def _text(servers: Sequence[str], domains: Sequence[str], options: Sequence[str]) -> str:
    lines = ["# Generated by netkit, and again whenever the container's networks change."]
    lines += [f"nameserver {s}" for s in servers]
    lines += [f"search {' '.join(domains)}"] if domains else []
    lines += [f"options {' '.join(options)}"] if options else []
    return "\n".join(lines) + "\n"


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _checked(server: str) -> str:
    if _address(server) is None or server == RESOLVER:
        raise InvalidSpec(f"invalid DNS server: {json.dumps(server)} is no address to forward to")
    return server


def _reachable(server: str) -> bool:
    """Is a server reachable from a namespace with IPv4 only, and its own loopback?"""
    address = _address(server)
    return isinstance(address, IPv4Address) and not address.is_loopback


def _gateway(address: str) -> str:
    if _address(address) is None:
        raise InvalidSpec(
            "unable to derive the IP value for host-gateway: the default network has no gateway"
        )
    return address


def _one_word(text: str) -> bool:
    """Is the text one word?  User input must not add a line or a comment to the file."""
    return bool(text) and text.isprintable() and " " not in text and "#" not in text


def _is_ndots(option: str) -> bool:
    key, _, value = option.partition(":")
    return key == "ndots" and value.isdigit()
