"""Where a repository is asked for: registries, mirrors, schemes.  Pure but for the lookup given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from runtime.images.reference import OFFICIAL, Reference
from runtime.registry.settings import HUB, RegistrySettings

Lookup = Callable[[str], Iterable[str]]  # addresses of a host; none if it has no name
_LOOPBACK = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    registry: str  # HOST[:PORT], or "docker.io"
    path: str  # "library/busybox"

    @property
    def familiar(self) -> str:
        if self.registry == HUB:
            return self.path.removeprefix(f"{OFFICIAL}/")
        return f"{self.registry}/{self.path}"

    @property
    def full(self) -> str:
        """As `The push refers to repository [...]` shows it."""
        return f"{self.registry}/{self.path}"


def repository(name: Reference) -> Repository:
    first, slash, rest = name.repository.partition("/")
    known = "." in first or ":" in first or first == "localhost" or first.lower() != first
    if slash and known:
        return Repository(registry=first, path=rest)
    return Repository(registry=HUB, path=name.repository if slash else f"{OFFICIAL}/{first}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One way to a registry; `verify`: TLS certificates must be valid."""

    scheme: str
    host: str  # HOST[:PORT]
    path: str = "/"  # of a mirror's URL, with slashes at both ends
    verify: bool = True
    mirror: bool = False

    def url(self, path: str) -> str:
        """`path` below /v2/."""
        return f"{self.scheme}://{self.host}{self.path}v2/{path}"


def endpoints(
    registry: str, settings: RegistrySettings, lookup: Lookup, *, mirrors: bool
) -> list[Endpoint]:
    """In the order to try.  An insecure registry may have an invalid certificate, or no TLS."""
    found: list[Endpoint] = []
    if registry != HUB:
        return _direct(registry, insecure(registry, settings, lookup))
    for url in settings.mirrors if mirrors else ():
        at = urlsplit(url)
        relaxed = at.scheme == "https" and insecure(at.netloc, settings, lookup)
        found.append(
            Endpoint(
                scheme=at.scheme, host=at.netloc, path=at.path, mirror=True, verify=not relaxed
            )
        )
    return [*found, Endpoint(scheme=settings.scheme, host=settings.hub)]


def _direct(host: str, relaxed: bool) -> list[Endpoint]:
    secure = Endpoint(scheme="https", host=host, verify=not relaxed)
    return [secure, Endpoint(scheme="http", host=host, verify=False)] if relaxed else [secure]


def insecure(host: str, settings: RegistrySettings, lookup: Lookup) -> bool:
    """Is HOST[:PORT] listed, or an address of it in a listed network or on loopback?"""
    name = hostname(host)
    if host in settings.insecure or name in settings.insecure:
        return True
    networks = [ip_network(n) for n in (*settings.insecure, *_LOOPBACK) if "/" in n]
    try:
        addresses = [ip_address(name)]
    except ValueError:
        addresses = [ip_address(text) for text in lookup(name)]
    return any(a.version == n.version and a in n for a in addresses for n in networks)


def hostname(host: str) -> str:
    """HOST of HOST[:PORT], without the brackets of an IPv6 address."""
    return urlsplit(f"//{host}").hostname or host
