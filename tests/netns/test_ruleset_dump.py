"""A dump of all rules: the tables are those of nft, and where there are none no tool is started."""

from __future__ import annotations

import json

import pytest

from netkit.kernel import ruleset_dump
from tests.netns.conftest import Lab


def test_without_a_table_no_tool_is_started(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object) -> str:
        raise AssertionError("a tool was started")

    assert lab.run("iptables-nft-save") == lab.run("nft", "list", "tables") == ""
    monkeypatch.setattr(ruleset_dump, "_printed", started)
    assert ruleset_dump.listing(lab.home).saved[0] == ("iptables-nft", "")


def test_tables_of_all_families_are_found_as_nft_lists_them(lab: Lab) -> None:
    lab.run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")
    lab.run("ip6tables-nft", "-A", "INPUT", "-j", "ACCEPT")
    for family in ("ip", "ip6", "inet", "arp", "bridge", "netdev"):
        lab.run("nft", "add", "table", family, "own")
    listed = json.loads(lab.run("nft", "-j", "list", "tables"))["nftables"]
    found = [(t["table"]["family"], t["table"]["name"]) for t in listed if "table" in t]
    assert len(found) == 8
    assert ruleset_dump._tables(lab.home) == found
    dump = ruleset_dump.listing(lab.home)
    assert "--dport 80 -j DROP" in dump.saved[0][1]
    assert len(dump.native) == 2  # ip and inet
    assert dump.bridged
