"""Options of kinds of links, as the kernel has them."""

from __future__ import annotations

import pytest

from netkit.errors import KernelError
from netkit.kernel.netlink.codec import attr, attributes
from netkit.kernel.netlink.kinds import INFO_DATA, KINDS, Option, decode, encode, named


@pytest.mark.parametrize("mode", ["private", "vepa", "bridge", "passthru"])
def test_an_option_is_read_as_it_was_written(mode: str) -> None:
    options = (("mode", mode),)
    assert decode("macvlan", attributes(encode("macvlan", options))[INFO_DATA]) == options


def test_kinds_without_options_have_no_data() -> None:
    assert encode("bridge", None) == encode("macvlan", None) == encode("dummy", ()) == b""
    assert decode("bridge", b"") is None
    assert decode("wireguard", b"\x08\x00\x01\x00\x01\x00\x00\x00") is None
    assert decode("macvlan", b"") == ()


def test_a_number_the_kernel_added_since_is_shown_as_one() -> None:
    assert decode("macvlan", b"\x08\x00\x01\x00\x20\x00\x00\x00") == (("mode", "32"),)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("wireguard", None, "links of kind wireguard are not supported: they are bridge, "),
        ("bridge", (("mode", "bridge"),), "a bridge has no option mode"),
        ("macvlan", (("mod", "bridge"),), "a macvlan has no option mod"),
        ("macvlan", (("mode", "brige"),), "a macvlan has no mode 'brige'"),
        ("macvlan", (("mode", "4"),), "a macvlan has no mode '4'"),
    ],
)
def test_what_a_kind_does_not_have_is_refused(
    kind: str, options: tuple[tuple[str, str], ...] | None, message: str
) -> None:
    with pytest.raises(KernelError, match=message):
        encode(kind, options)


def test_a_number_fits_its_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "netkit.kernel.netlink.kinds.KINDS",
        {**KINDS, "vlan": (Option(name="id", attribute=1, size=2),)},
    )
    assert decode("vlan", attributes(encode("vlan", (("id", "4094"),)))[INFO_DATA]) == (
        ("id", "4094"),
    )
    for bad in ("65536", "-1", "x", ""):
        with pytest.raises(KernelError, match="a vlan has no id"):
            encode("vlan", (("id", bad),))


def test_a_tunnel_s_options_are_as_ip_link_has_them() -> None:
    options = (
        ("df", "inherit"), ("dstport", "6784"), ("id", "16777215"), ("learning", "off"),
        ("local", "192.0.2.1"), ("ttl", "64"), ("udpcsum", "on"),
    )  # fmt: skip
    data = attributes(encode("vxlan", options))[INFO_DATA]
    assert decode("vxlan", data) == options
    assert attributes(data)[15] == (6784).to_bytes(2, "big")
    with pytest.raises(KernelError, match="a vxlan has no local 'eth0'"):
        encode("vxlan", (("local", "eth0"),))


def test_a_tap_is_a_tun_of_that_type() -> None:
    assert [named("tun", attr(3, bytes([n]))) for n in (1, 2)] == ["tun", "tap"]
    assert named("vxlan", b"") == "vxlan"
