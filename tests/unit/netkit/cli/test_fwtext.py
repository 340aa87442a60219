"""What `fw show` says of a container, from the facts of the daemon."""

from __future__ import annotations

from typing import Any

from netkit.cli.fwtext import lines

WEB = {
    "Name": "web", "Running": True, "Mode": "bridge", "LinkedFrom": [], "Exposed": [],
    "Rules": [], "Foreign": [],
    "Published": [{"HostIp": "0.0.0.0", "HostPort": 8080, "Port": 80, "Proto": "tcp"}],
}  # fmt: skip
ONE = {
    "Name": "one", "Driver": "bridge", "Address": "172.20.1.2", "Internal": False, "Icc": True,
    "Mode": "nat", "Link": "br0", "Strangers": [], "Filtered": True, "Trusted": [],
}  # fmt: skip


def shown(*, enforced: bool = True, unread: str = "", **network: Any) -> str:
    web = {**WEB, "Networks": [{**ONE, **network}]}
    found = {"Driver": "x", "Enforced": enforced, "Unread": unread, "Containers": [web]}
    return "\n".join(lines(found))


def test_who_else_reaches_a_container_depends_on_what_is_in_its_bridge() -> None:
    assert "published ports only, never 172.20.1.2 itself" in shown()
    assert "but hosts behind eth0 of br0 reach all ports" in shown(Strangers=["eth0"])
    assert "hosts behind" not in shown(Strangers=["eth0"], Icc=False)  # rules drop it
    assert "hosts behind" in shown(Strangers=["eth0"], Icc=False, Filtered=False)
    assert "every host on it reaches all ports" in shown(Mode="bridged")
    assert "only from eth1 (trusted)" in shown(Trusted=["eth1"])


def test_containers_of_other_hosts_are_neighbours_on_an_overlay() -> None:
    text = shown(Name="lane", Strangers=["wx-1", "wt-1"], Overlay=True, Mode="isolated")
    assert "by lane: no host, as this one has no address on it; but containers of lane on" in text
    assert "hosts behind" not in text


def test_all_addresses_of_a_container_are_shown() -> None:
    both = shown(Addresses=["172.20.1.2", "192.168.1.2"])
    assert "web (172.20.1.2 and 192.168.1.2 on one)" in both
    assert "web (172.20.1.2 on one)" in shown()


def test_without_rules_nothing_is_promised() -> None:
    text = shown(enforced=False)
    assert "nothing leads from there to 80/tcp" in text
    assert "every host with a route to 172.20.1.2 reaches all its ports" in text
    assert "never" not in text


def test_what_cannot_be_read_is_not_shown_as_absent() -> None:
    assert "rules of other tools cannot be read" in shown(unread="nft is not installed")


def test_rules_of_netkits_without_comments_are_no_other_tools() -> None:
    rule = {"Tool": "nft", "Table": "ip nat", "Chain": "DOCKER", "Number": 1, "Text": "a rule"}
    web = {**WEB, "Networks": [ONE], "Foreign": [{**rule, "Lost": True}]}
    found = {"Driver": "x", "Enforced": True, "Unread": "", "Containers": [web]}
    text = "\n".join(lines(found))
    assert "other tools" not in text
    assert "netkit's    1 without their comments: they hold, and netkit fw repair" in text
    assert "ip nat DOCKER 1 (nft): a rule" in text
    assert "but for the rules above" not in text
