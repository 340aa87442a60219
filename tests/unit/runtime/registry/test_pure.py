"""Names to endpoints, challenges, platforms, addresses: what is decided without a network."""

from __future__ import annotations

import io
import zlib

import pytest

from netkit.errors import Forbidden, InvalidSpec
from runtime.cancellation import Cancel
from runtime.images.reference import parse
from runtime.registry import addresses, challenges, failures, manifests
from runtime.registry.endpoints import endpoints, repository
from runtime.registry.gzipping import compressed
from runtime.registry.manifests import Descriptor, Platform, choose
from runtime.registry.progress import bar, human
from runtime.registry.settings import RegistrySettings


@pytest.mark.parametrize(
    ("name", "registry", "path", "familiar"),
    [
        ("busybox", "docker.io", "library/busybox", "busybox"),
        ("team/app:1", "docker.io", "team/app", "team/app"),
        ("docker.io/library/busybox", "docker.io", "library/busybox", "busybox"),
        ("localhost/x", "localhost", "x", "localhost/x"),
        ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000", "a/b", "127.0.0.1:5000/a/b"),
        ("[::1]:5000/x", "[::1]:5000", "x", "[::1]:5000/x"),
    ],
)
def test_a_name_has_a_registry_and_a_path(
    name: str, registry: str, path: str, familiar: str
) -> None:
    found = repository(parse(name))
    assert (found.registry, found.path, found.familiar) == (registry, path, familiar)


def ways(registry: str, lookup: dict[str, list[str]] | None = None, **more: object) -> list[str]:
    settings = RegistrySettings(**more)  # type: ignore[arg-type]
    found = endpoints(registry, settings, lambda host: (lookup or {}).get(host, []), mirrors=True)
    return [f"{way.url('')} {'verified' if way.verify else 'any'}" for way in found]


def test_where_a_registry_is_asked() -> None:
    assert ways("docker.io") == ["https://registry-1.docker.io/v2/ verified"]
    assert ways("docker.io", mirrors=("http://m:81/", "https://n/sub/")) == [
        "http://m:81/v2/ verified", "https://n/sub/v2/ verified",
        "https://registry-1.docker.io/v2/ verified",
    ]  # fmt: skip
    assert ways("r.example", mirrors=("http://m/",)) == ["https://r.example/v2/ verified"]
    either = ["https://{}/v2/ any", "http://{}/v2/ any"]
    for name, more in (
        ("127.0.0.1:5000", {}), ("[::1]:5000", {}), ("r.example", {"insecure": ("r.example",)}),
        ("r.example:81", {"insecure": ("r.example:81",)}),
        ("10.1.2.3", {"insecure": ("10.0.0.0/8",)}),
    ):  # fmt: skip
        assert ways(name, **more) == [each.format(name) for each in either]  # type: ignore[arg-type]
    assert ways("near", {"near": ["127.0.0.1"]}) == [each.format("near") for each in either]
    assert ways("r.example:81", insecure=("r.example:82",)) == ["https://r.example:81/v2/ verified"]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="https://a/t",service="s"',
         [("bearer", {"realm": "https://a/t", "service": "s"})]),
        ('Basic realm="a b", Bearer realm=x',
         [("basic", {"realm": "a b"}), ("bearer", {"realm": "x"})]),
        ('BASIC', [("basic", {})]),
        (r'Bearer realm="a\"b"', [("bearer", {"realm": 'a"b'})]),
        ('Bearer realm="a,b=c", error="insufficient_scope"',
         [("bearer", {"realm": "a,b=c", "error": "insufficient_scope"})]),
        ("", []), (",,,", []), ("Bearer realm=\"open", [("bearer", {})]),
    ],
)  # fmt: skip
def test_challenges(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(c.scheme, dict(c.parameters)) for c in challenges.parse([header])] == found


def test_the_closest_platform_is_chosen() -> None:
    def entry(text: str, n: int) -> Descriptor:
        os, arch, *variant = text.split("/")
        return Descriptor(f"sha256:{n:064x}", 1, "m", Platform(os, arch, *variant))

    known = "windows/amd64 linux/arm/v5 linux/arm/v7 linux/arm64/v8 linux/amd64"
    listed = [entry(text, number) for number, text in enumerate(known.split())]

    def chosen(text: str) -> str:
        found = choose(listed, manifests.platform(text))
        return str(found.platform) if found else ""

    assert chosen("linux/amd64") == "linux/amd64"
    assert chosen("linux/arm/v6") == "linux/arm/v5"
    assert chosen("linux/arm/v7") == "linux/arm/v7"
    assert chosen("linux/aarch64") == "linux/arm64/v8"
    assert chosen("linux/s390x") == ""
    for bad in ("windows/amd64", "linux/../x", "a/b/c/d"):
        with pytest.raises(InvalidSpec):
            manifests.platform(bad)


@pytest.mark.parametrize(
    ("registry", "there", "allowed"),
    [
        ("8.8.8.8", "9.9.9.9", True), ("8.8.8.8", "127.0.0.1", False),
        ("8.8.8.8", "10.0.0.1", False), ("10.0.0.1", "192.168.0.1", True),
        ("10.0.0.1", "127.0.0.1", False), ("127.0.0.1", "10.0.0.1", True),
        ("127.0.0.1", "169.254.169.254", False), ("169.254.1.1", "169.254.1.2", True),
        ("8.8.8.8", "::1", False), ("8.8.8.8", "::ffff:127.0.0.1", False),
        ("8.8.8.8", "fe80::1%eth0", False), ("8.8.8.8", "0.0.0.0", False),
        ("8.8.8.8", "64:ff9b::7f00:1", False), ("8.8.8.8", "2002:7f00:1::", False),
        ("2001:4860:4860::8888", "fd00::1", False), ("8.8.8.8", "224.0.0.1", False),
    ],
)  # fmt: skip
def test_where_a_registry_may_send_us(registry: str, there: str, allowed: bool) -> None:
    try:
        addresses.check(registry, there, "a redirect")
    except Forbidden:
        assert not allowed
    else:
        assert allowed


def test_the_message_of_the_registry_is_shown() -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "not for you"}]}'
    error = failures.of_pull(failures.refusal(403, body), "app", "app:1")
    assert (error.status, str(error)) == (
        404,
        "pull access denied for app, repository does not exist or may require 'docker login': "
        "denied: not for you",
    )
    assert str(failures.refusal(401, b"")) == "unauthorized: authentication required"


def test_gzip_is_the_same_each_time_and_what_went_in() -> None:
    data = bytes(range(256)) * 20_000 + b"end"

    def once() -> bytes:
        return b"".join(compressed(io.BytesIO(data).read, Cancel()))

    assert once() == once()
    assert zlib.decompress(once(), 31) == data
    assert zlib.decompress(b"".join(compressed(io.BytesIO().read, Cancel())), 31) == b""


def test_progress_is_drawn_as_docker_draws_it() -> None:
    assert [human(n) for n in (0, 946, 1500, 12_345_678, 10**10)] == [
        "0B", "946B", "1.5kB", "12.35MB", "10GB"
    ]  # fmt: skip
    assert bar(50, 100) == "[=========================>                         ]      50B/100B"
    assert bar(100, 100) == "[==================================================>]     100B/100B"
