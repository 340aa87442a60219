"""Flags and the configuration file of the daemon."""

import json
from pathlib import Path

import pytest

from netkit.errors import InvalidSpec
from runtime.daemon.config_load import load


def with_file(tmp_path: Path, document: object, *flags: str) -> object:
    file = tmp_path / "daemon.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return load(["--config", str(file), *flags])


def test_defaults() -> None:
    c = load([])
    assert c.listeners == ("unix:///run/netkit/netkit.sock",)
    assert (c.icc, c.ip_masq, c.iptables) == (True, True, True)


def test_flags() -> None:
    c = load(
        ["-H", "unix:///a", "-H", "tcp://127.0.0.1:1", "--label", "a=b", "--icc=false",
         "--bip", "10.0.0.1/24", "--default-address-pool", "base=10.9.0.0/16,size=24"]
    )  # fmt: skip
    assert c.listeners == ("unix:///a", "tcp://127.0.0.1:1")
    assert c.icc is False
    assert c.default_address_pools == (("10.9.0.0/16", 24),)


def test_the_file_speaks_dockers_keys(tmp_path: Path) -> None:
    c = with_file(
        tmp_path,
        {"hosts": ["fd://"], "data-root": "/x", "dns": ["1.1.1.1"], "mtu": 1400,
         "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}]},
    )  # fmt: skip
    assert (c.root, c.mtu, c.dns) == (Path("/x"), 1400, ("1.1.1.1",))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bip", "10.0.0.1"], "prefix length"),
        (["--bip", "10.0.0.1/24", "-b", "br0"], "mutually exclusive"),
        (["--bip", "10.0.0.1/24", "--default-gateway", "10.1.0.1"], "is not in"),
        (["--label", "x"], "bad attribute format"),
        (["--icc", "maybe"], "true or false"),
        (["--mtu", "7"], "between 68 and"),
        (["--tlsverify"], "need --tlscert"),
        (["--dns", "nope"], "not an ip address"),
        (["--default-address-pool", "base=10.0.0.0/16,size=8"], "give base=CIDR"),
        (["--firewall-backend", "pf"], "use auto"),
        (["--cluster", "tcp:h1:6640"], "use ovsdb:tcp:IP:PORT"),
        (["--cluster", "ovsdb:ssl:10.0.0.1:1"], "must be tcp:10.0.0.1:1"),
        (["--cluster-tls-ca", "/ca", "--cluster-tls-key", "/k"], "--cluster-tls-cert is missing"),
        (["--cluster-advertise", "h1"], "--cluster-advertise h1"),
    ],
)
def test_bad_flags_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        load(flags)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"bridg": "x"}, "did you mean 'bridge'"),
        ("{", "not JSON"),
        ("[]", "one JSON object"),
        ({"dns": "1.1.1.1"}, "list of texts"),
        ({"bridge": 5}, "is a text"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        with_file(tmp_path, document)


def test_a_key_in_both_places_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="give it once"):
        with_file(tmp_path, {"mtu": 1400}, "--mtu", "1300")
