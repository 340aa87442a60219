"""`h[1-50]` and `count:`: what they stand for, and what is refused."""

from __future__ import annotations

from textwrap import dedent

import pytest

from netkit.lab import checks, document, ranges, schema
from netkit.lab.graph import graph
from netkit.lab.reading import LabFile, parsed
from tests.places import ROOT

MANY = """
underlay: {"l[1-3]": {}, lan: {mtu: 1400}}
cluster: ["h[1-3]"]
hosts:
  h[1-3]:
    interfaces:
      eth0: {segment: lan, address: "10.0.0.[101-103]/24"}
      eth1: {segment: "l[1-3]", address: "10.1.[1-3].1/24"}
    routes: ["10.9.[1-3].0/24 via 10.1.[1-3].2"]
    setup: ["echo h[1-3] [7] \\\\[1-9]"]
    containers:
      c[1-6]: {command: "sleep [11-16]", ports: ["80[01-03]:80"]}
      web: {count: 1, links: ["c[1,3,5]:c"]}
  probe: {count: 2, daemon: false, sysctls: {net.a: 1}}
checks: ["probe[1-2] -> h[1,3] icmp ok"]
"""


def test_an_entry_stands_for_several_whose_texts_go_in_step() -> None:
    lab = parsed(MANY, "many")
    assert [s.name for s in lab.segments] == ["l1", "l2", "l3", "lan"]
    assert [h.name for h in lab.hosts] == ["h1", "h2", "h3", "probe1", "probe2"]
    assert lab.cluster == ("h1", "h2", "h3")
    h2 = lab.hosts[1]
    assert [(i.segment, str(i.address)) for i in h2.interfaces] == [
        ("lan", "10.0.0.102/24"), ("l2", "10.1.2.1/24"),
    ]  # fmt: skip
    assert (str(h2.routes[0].dst), str(h2.routes[0].gateway)) == ("10.9.2.0/24", "10.1.2.2")
    assert h2.setup == ("echo h2 [7] [1-9]",)
    assert (lab.hosts[3].daemon, lab.hosts[3].sysctls) == (None, {"net.a": "1"})


def test_several_ranges_of_a_word_are_in_step_each_or_together() -> None:
    lab = parsed(
        "hosts:\n  h[1-4]: {setup: ['a[1-4].[5-8] b[0-1].[1-2]'], containers: {'c[1-4]': {}}}",
        "one",
    )
    assert [h.setup[0] for h in lab.hosts] == ["a1.5 b0.1", "a2.6 b0.2", "a3.7 b1.1", "a4.8 b1.2"]


def test_containers_are_shared_out_in_order() -> None:
    lab = parsed(MANY, "many")
    names = [[c.name for c in h.containers] for h in lab.hosts[:3]]
    assert names == [["c1", "c2", "web1"], ["c3", "c4", "web2"], ["c5", "c6", "web3"]]
    c4, web2 = lab.hosts[1].containers[1:]
    assert c4.command == ("sleep", "14")
    assert c4.ports == ("8002:80",), "in step with the hosts"
    assert web2.links == ("c3:c",)


def test_a_range_in_a_check_is_the_names_it_stands_for() -> None:
    lab = parsed(MANY, "many")
    assert [(c.source, c.target) for c in lab.checks] == [
        ("probe1", "h1"), ("probe1", "h3"), ("probe2", "h1"), ("probe2", "h3"),
    ]  # fmt: skip


def test_what_a_range_made_is_drawn_as_if_it_had_been_written() -> None:
    drawn = graph(parsed(MANY, "many"), "text")
    assert "  |-- h2 eth1 10.1.2.1/24" in drawn
    assert "    |-- c4 -p 8002:80" in drawn


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("h", ["h"]), ("h[1-3]", ["h1", "h2", "h3"]), ("n[08-10]", ["n08", "n09", "n10"]),
        ("s[1,3-4]", ["s1", "s3", "s4"]), ("r[1-2]c[1-2]", ["r1c1", "r1c2", "r2c1", "r2c2"]),
        ("h[7]", ["h[7]"]), ("h[a-b]", ["h[a-b]"]), (r"\[1-2]", [r"\[1-2]"]), ("[9,9]", ["9", "9"]),
    ],
)  # fmt: skip
def test_a_range_stands_for(text: str, names: list[str]) -> None:
    assert ranges.spread(text) == names


LAN = "underlay: {lan: {}}\n"
BAD = {
    "backwards": ("hosts: {'h[3-1]': {}}", "lab.yml:1: hosts.h[3-1]: [3-1] runs backwards: write"),
    "three": ("hosts: {'h[1-2-3]': {}}", "[1-2-3] is no range: write [1-50] or [1,3-4]"),
    "huge": ("hosts: {'h[1-99999999999]': {}}", "is no range"),
    "too many": ("hosts: {'h[1-1001]': {}}", "stands for 1001 names: 1000 at most"),
    "too many by product": ("hosts: {'h[1-900]x[1-900]': {}}", "stands for 810000 names"),
    "too many at once": ("hosts: {'h[1-900]': {}, 'i[1-900]': {}}", "has 1000 hosts at most"),
    "letters": ("hosts: {'h[a-c]': {}}", "the name 'h[a-c]' does not match [a-z][a-z0-9_]{0,11}"),
    "too long": ("hosts: {'elevenletters[1-3]': {}}", "the name 'elevenletters1' does not match"),
    "segment": ("underlay: {'L[1-2]': {}}\nhosts: {h: {}}", "the name 'L1' does not match"),
    "both": ("hosts: {'h[1-2]': {count: 2}}", "a range says how many there are: leave out count"),
    "count": ("hosts: {h: {count: 0}}", "must be between 1 and 1000, not 0"),
    "count in all": (
        "hosts: {'h[1-50]': {containers: {cc: {count: 50}}}}", "stands for 2500 names: 1000 at",
    ),
    "twice": (
        "hosts:\n  h2: {}\n  h[1-3]: {}", "lab.yml:3: hosts.h[1-3]: makes 'h2', which line 2 makes",
    ),
    "out of step": (
        "hosts:\n  h[1-3]:\n    setup:\n    - echo [1-2]",
        "lab.yml:4: hosts.h[1-3].setup[0]: '[1-2]' stands for 2 texts, and 3 names go in step",
    ),
    "container without": (
        "hosts: {'h[1-3]': {containers: {web: {}}}}",
        "hosts.h[1-3].containers.web: there would be one on each of 3 hosts: write web[1-3], or",
    ),
    "not shared out": (
        "hosts: {'h[1-3]': {containers: {'c[1-4]': {}}}}", "these are 4 containers for 3 hosts",
    ),
    "one address": (
        LAN + "hosts:\n  h[1-3]: {interfaces: {e: {segment: lan, address: 10.0.0.1/24}}}",
        "lab.yml:3: hosts.h2.interfaces.e.address: 10.0.0.1 is h1's on lan already (and so 1 more)",
    ),
    "one mac": (
        LAN + "hosts: {'h[1-3]': {interfaces: {e: {segment: lan, mac: '02:00:00:00:00:01'}}}}",
        "hosts.h[1-3].interfaces.e.mac: would be that of several hosts",
    ),
    "unknown": (
        "hosts:\n  h[1-3]: {interfaces: {e: {segment: lan}}}",
        "lab.yml:2: hosts.h1.interfaces.e.segment: no segment of `underlay` is called 'lan' "
        "(there are: none) (and so 2 more)",
    ),
    "check": ("hosts: {'h[1-3]': {}}\nchecks: ['h1 -> h[2-4] ok']", "is called 'h4'"),
    "interfaces": (
        "hosts: {h: {interfaces: {'eth[0-1]': {segment: lan}}}}", "the name 'eth[0-1]' does not",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_reported_once_in_a_line_with_its_place(case: str) -> None:
    text, words = BAD[case]
    with pytest.raises(LabFile) as caught:
        parsed(text, "bad")
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_ranges_make_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netkit.lab.document.MAX_VALUES", 50)
    with pytest.raises(LabFile, match="ranges make more than 50 values of it: name fewer"):
        parsed("hosts:\n  h[1-20]: {setup: [a, b]}", "bad")


def test_pairs_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "hosts: {'h[1-400]': {daemon: false}}\nchecks: ['h* <-> h* icmp ok']"
    with pytest.raises(LabFile, match="asks 320000 pairs: 100000 at most, name fewer"):
        parsed(text, "bad")
    monkeypatch.setattr("netkit.lab.reading.MAX_PAIRS", 10)
    text = "hosts: {'h[1-3]': {daemon: false}}\nchecks: ['h* -> h* icmp ok', 'h* -> h* tcp/1 ok']"
    with pytest.raises(LabFile, match=r"checks\[1\]: with these there are more than 10 pairs"):
        parsed(text, "bad")


def test_names_have_the_form_that_the_schema_gives_them() -> None:
    top = schema.lab_schema()["properties"]
    host = top["hosts"]["additionalProperties"]["properties"]
    container = host["containers"]["additionalProperties"]["properties"]
    patterns = [top["underlay"], top["hosts"]]
    for found, ours in zip(patterns, (ranges.SEGMENT, ranges.HOST), strict=True):
        assert found["propertyNames"]["pattern"] == f"^{ours.pattern}$|\\["
    assert {host["count"]["maximum"], container["count"]["maximum"]} == {ranges.MAX_MEMBERS}


def test_docs_have_the_bounds_and_an_example_that_holds() -> None:
    text = (ROOT / "docs" / "labs.md").read_text()
    example = text.partition("## Many of a kind\n")[2].partition("\nBetween")[0]
    lab = parsed(dedent(example), "example")
    assert [c.name for c in lab.hosts[1].containers] == ["c3", "c4"]
    assert len(lab.checks) == 150
    assert f"at most {ranges.MAX_MEMBERS:,} names; a lab has at most {ranges.MAX_MEMBERS:,}" in text
    assert f"{document.MAX_VALUES:,} values and {checks.MAX_PAIRS:,} pairs" in text
