"""/etc/hosts and resolv.conf as containers find them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netkit.errors import InvalidSpec
from netkit.spec import EndpointRecord, EndpointSpec
from runtime.network import etc_files


def endpoint(address: str) -> EndpointRecord:
    return EndpointRecord(
        id="e", network="n", sandbox="s", owner_name="c", spec=EndpointSpec(network="n"),
        address=address,
    )  # fmt: skip


def hosts(
    *extra: str, addresses: tuple[str, ...] = ("10.1.0.2/16",), domain: str = "", ipv6: bool = False
) -> str:
    return etc_files.render_hosts(
        hostname="web",
        domainname=domain,
        extra_hosts=extra,
        host_gateway="172.17.0.1",
        endpoints=[endpoint(a) for a in addresses],
        ipv6=ipv6,
    )


def test_hosts_has_loopback_and_own_addresses() -> None:
    text = hosts(addresses=("10.1.0.2/16", "10.2.0.9/24"), domain="example.org")
    assert text == (
        "127.0.0.1\tlocalhost\n"
        "10.1.0.2\tweb.example.org web\n"
        "10.2.0.9\tweb.example.org web\n"
    )  # fmt: skip


def test_hosts_has_dockers_ipv6_lines_only_with_ipv6() -> None:
    assert hosts("six:2001:db8::1") == "127.0.0.1\tlocalhost\n10.1.0.2\tweb\n"
    assert hosts("six:2001:db8::1", ipv6=True).splitlines()[1:7] == [
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "ff00::\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
        "2001:db8::1\tsix",
    ]


def test_extra_hosts_come_before_the_endpoints() -> None:
    lines = hosts("db:192.0.2.1", "up=host-gateway").splitlines()
    assert lines[1:] == ["192.0.2.1\tdb", "172.17.0.1\tup", "10.1.0.2\tweb"]


def test_an_endpoint_without_address_has_no_line() -> None:
    assert hosts(addresses=("",)) == "127.0.0.1\tlocalhost\n"


def test_host_gateway_without_a_gateway_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="unable to derive the IP value for host-gateway"):
        etc_files.render_hosts(
            hostname="c", domainname="", extra_hosts=["a:host-gateway"], host_gateway="",
            endpoints=[],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a:1.2.3.4", ("a", "1.2.3.4")),
        ("a=1.2.3.4", ("a", "1.2.3.4")),
        ("a:::1", ("a", "::1")),
        ("a=[2001:db8::1]", ("a", "2001:db8::1")),
        ("a:host-gateway", ("a", "host-gateway")),
    ],
)
def test_an_extra_host_is_parsed(text: str, parsed: tuple[str, str]) -> None:
    assert etc_files.parse_extra_host(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", 'bad format for add-host: "a"'),
        (":1.2.3.4", 'bad format for add-host: ":1.2.3.4"'),
        ("a:b=1.2.3.4", 'bad format for add-host: "a:b=1.2.3.4"'),
        ("a\nb:1.2.3.4", r'bad format for add-host: "a\\nb:1.2.3.4"'),
        ("a:1.2.3.256", 'invalid IP address in add-host: "1.2.3.256"'),
        ("a:", 'invalid IP address in add-host: ""'),
    ],
)
def test_a_bad_extra_host_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=f"^{message}$"):
        etc_files.parse_extra_host(text)


HOST = """# of the host
nameserver 127.0.0.53
nameserver 192.0.2.1
nameserver 2001:db8::1
search old.example
search a.example b.example
options edns0
options timeout:1
"""


def resolv(
    text: str = HOST, *, embedded: bool = False, shares_host: bool = False, **lists: list[str]
) -> tuple[list[str], list[str]]:
    settings = {"dns": [], "search": [], "options": [], **lists}
    made, servers = etc_files.render_resolv_conf(
        text, embedded=embedded, shares_host=shares_host, **settings
    )
    return [line for line in made.splitlines() if line and line[0] != "#"], servers


def test_on_a_user_defined_network_the_container_asks_the_resolver() -> None:
    lines, servers = resolv(embedded=True)
    assert lines == [
        "nameserver 127.0.0.11",
        "search a.example b.example",
        "options edns0 timeout:1 ndots:0",
    ]
    assert servers == ["127.0.0.53", "192.0.2.1", "2001:db8::1"]


def test_the_file_names_the_servers_that_are_asked_in_the_end() -> None:
    text, _ = etc_files.render_resolv_conf(
        HOST, dns=["198.51.100.1"], search=[], options=[], embedded=True
    )
    assert "# ExtServers: [host(198.51.100.1)]" in text


def test_an_own_ndots_is_kept() -> None:
    assert resolv(embedded=True, options=["ndots:3"])[0][-1] == "options ndots:3"


def test_the_default_network_has_the_hosts_servers_that_can_be_reached() -> None:
    lines, servers = resolv()
    assert lines[0] == "nameserver 192.0.2.1"
    assert servers == ["192.0.2.1"]


def test_the_default_network_falls_back_to_dockers_servers() -> None:
    assert resolv("nameserver 127.0.0.1\n")[1] == ["8.8.8.8", "8.8.4.4"]
    assert resolv("nameserver 127.0.0.1\n", embedded=True)[1] == ["127.0.0.1"]
    assert resolv("", embedded=True)[1] == []


def test_the_hosts_own_namespace_keeps_loopback_servers() -> None:
    assert resolv(shares_host=True)[1] == ["127.0.0.53", "192.0.2.1", "2001:db8::1"]


def test_overrides_replace_the_hosts_values() -> None:
    lines, servers = resolv(dns=["127.0.0.1"], search=["x.example"], options=["rotate"])
    assert lines == ["nameserver 127.0.0.1", "search x.example", "options rotate"]
    assert servers == ["127.0.0.1"]


def test_a_dot_means_no_search_domain() -> None:
    assert not any(line.startswith("search") for line in resolv(search=["."])[0])


def test_the_resolver_never_forwards_to_itself() -> None:
    assert resolv("nameserver 127.0.0.11\n", embedded=True)[1] == []
    with pytest.raises(InvalidSpec):
        resolv(dns=["127.0.0.11"], embedded=True)


@pytest.mark.parametrize(
    "lists",
    [{"dns": ["one.example"]}, {"search": ["a\nnameserver 1.2.3.4"]}, {"options": ["a b"]}],
)
def test_what_cannot_be_one_word_of_the_file_is_refused(lists: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidSpec):
        resolv(**lists)


def test_the_stub_of_systemd_resolved_is_looked_through(tmp_path: Path) -> None:
    host, real = tmp_path / "host", tmp_path / "real"
    host.write_text("nameserver 127.0.0.53\noptions edns0\n")
    assert etc_files.host_resolv_text(host, real) == host.read_text()
    real.write_text("nameserver 192.0.2.1\n")
    assert etc_files.host_resolv_text(host, real) == real.read_text()
    host.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.2\n")
    assert etc_files.host_resolv_text(host, real) == host.read_text()


def test_a_host_without_the_file_has_no_servers(tmp_path: Path) -> None:
    assert etc_files.host_resolv_text(tmp_path / "host", tmp_path / "real") == ""


def test_the_hosts_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    opening = os.open
    monkeypatch.setattr(os, "open", lambda path, *a: opened.append(path) or opening(path, *a))
    (tmp_path / "host").write_text("nameserver 192.0.2.2\n")
    assert etc_files.host_resolv_text(tmp_path / "host", tmp_path / "real")
    assert opened == [tmp_path / "host"]


@pytest.mark.parametrize("new", ["", "short\n", "as long as\n", "much longer than it was\n"])
def test_rewriting_keeps_the_file(tmp_path: Path, new: str) -> None:
    path = tmp_path / "hosts"
    path.write_text("as long as\n")
    inode = path.stat().st_ino
    etc_files.write_in_place(path, new)
    assert (path.read_text(), path.stat().st_ino) == (new, inode)


def test_a_file_can_be_read_by_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        for text in ("text\n", "other\n"):
            etc_files.write_in_place(tmp_path / "hosts", text)
            assert (tmp_path / "hosts").stat().st_mode & 0o777 == 0o644
            (tmp_path / "hosts").chmod(0o600)
    finally:
        os.umask(before)


def test_rewriting_makes_a_file_and_follows_no_link(tmp_path: Path) -> None:
    etc_files.write_in_place(tmp_path / "new", "text\n")
    assert (tmp_path / "new").read_text() == "text\n"
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with pytest.raises(OSError, match="symbolic link"):
        etc_files.write_in_place(tmp_path / "link", "other\n")
    assert (tmp_path / "new").read_text() == "text\n"
