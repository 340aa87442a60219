"""Validate the keys for registries as dockerd does (moby v28, registry/config.go)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from netkit.errors import InvalidSpec

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,9}})?")


def mirror(text: str) -> str:
    """Normalize a mirror's URL to one trailing slash; InvalidSpec for an invalid one."""
    scheme, sep, _ = text.partition("://")
    if not sep or scheme not in {"http", "https"}:
        raise InvalidSpec(f"registry-mirrors {text!r}: must begin with https:// or http://")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise InvalidSpec(f"registry-mirrors {text!r}: not a URL: {error}") from None
    if url.username is not None or url.password is not None:
        shown = text.replace(url.netloc, f"xxxxx@{url.netloc.rpartition('@')[2]}")
        raise InvalidSpec(f"registry-mirrors {shown!r}: no user name or password in it")
    if not url.hostname or port == 0:
        raise InvalidSpec(f"registry-mirrors {text!r}: no host in it")
    if url.query or url.fragment:
        raise InvalidSpec(f"registry-mirrors {text!r}: no query or fragment at its end")
    return text.removesuffix("/") + "/"


def insecure(text: str) -> str:
    """HOST, HOST:PORT or a network; http:// and https:// before it are dropped."""
    bare = re.sub(r"\Ahttps?://", "", text, flags=re.IGNORECASE)
    if "://" in bare:
        raise InvalidSpec(f"insecure-registries {text!r}: should not contain '://'")
    if "/" in bare:
        try:
            return str(ip_network(bare, strict=False))
        except ValueError:
            raise InvalidSpec(
                f"insecure-registries {text!r}: give HOST, HOST:PORT or a network such as "
                "10.0.0.0/8"
            ) from None
    if _HOST.fullmatch(bare):
        port = bare.partition(":")[2]
        if port and int(port) > 65535:
            raise InvalidSpec(f"insecure-registries {text!r}: port {port} is above 65535")
        return bare
    try:
        ip_address(bare.rpartition("]")[0].lstrip("[") if bare.startswith("[") else bare)
    except ValueError:
        raise InvalidSpec(f"insecure-registries {text!r}: not a host") from None
    return bare


def shown(mirrors: Sequence[str], insecure_ones: Sequence[str]) -> dict[str, Any]:
    """RegistryConfig of `info`; loopback is always insecure, as with dockerd."""
    official = {"Name": "docker.io", "Mirrors": list(mirrors), "Secure": True, "Official": True}
    hosts = {
        name: {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
        for name in insecure_ones
        if "/" not in name
    }
    networks = [name for name in insecure_ones if "/" in name]
    return {
        "InsecureRegistryCIDRs": [*networks, "::1/128", "127.0.0.0/8"],
        "IndexConfigs": {**hosts, "docker.io": official},
        "Mirrors": list(mirrors),
    }
