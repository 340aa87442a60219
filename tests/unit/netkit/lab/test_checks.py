"""Check lines, the report on them, the picture of a lab, and the journal of its making."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from xml.etree import ElementTree

import pytest

from netkit.errors import InUse, KernelError
from netkit.lab import checking, report
from netkit.lab.checking import Question, Result, Standing
from netkit.lab.checks import expanded, parse
from netkit.lab.facts import Facts, Node
from netkit.lab.graph import graph
from netkit.lab.journal import Journal, only_one
from netkit.lab.model import Places
from netkit.lab.probe import Seen
from netkit.lab.reading import parsed, read
from tests.places import ROOT

CLONE = ROOT
LABS = sorted(p.parent for p in (CLONE / "labs").glob("*/lab.yml"))


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("web -> db tcp/80 ok", ("web", "db", "", "tcp", 80, "ok", False)),
        ("guest -> db blocked", ("guest", "db", "", "", 0, "blocked", False)),
        ("all <-> all icmp ok", ("all", "all", "", "icmp", 0, "ok", True)),
        ("outside -> h1:8080 ok", ("outside", "h1", "", "tcp", 8080, "ok", False)),
        ("a -> h1:53 udp closed", ("a", "h1", "", "udp", 53, "closed", False)),
        ("a -> b@lane tcp/1 open", ("a", "b", "lane", "tcp", 1, "ok", False)),
        ("  a  ->  10.0.0.1  unrouted ", ("a", "10.0.0.1", "", "", 0, "unrouted", False)),
    ],
)
def test_a_line_is_understood(line: str, parts: tuple[object, ...]) -> None:
    c = parse(line)
    assert (c.source, c.target, c.where, c.proto, c.port, c.outcome, c.both) == parts
    assert parse(str(c)) == c


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("web db ok", "write `web -> db tcp/80 ok`"),
        ("web -> db tcp/80 okay", "unknown outcome 'okay' (there are: ok, blocked,"),
        ("web -> db tcp/80 blokced", "unknown outcome 'blokced', did you mean 'blocked'?"),
        ("web -> db tpc/80 ok", "unknown protocol 'tpc', did you mean 'tcp'?"),
        ("web -> db tcp ok", "tcp needs a port"),
        ("web -> db tcp/70000 ok", "a port from 1 to 65535"),
        ("web -> db:80 tcp/81 ok", "names two ports"),
        ("web -> db icmp closed", "icmp has no ports"),
    ],
)
def test_a_line_that_is_none_is_refused_with_a_hint(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(line)


def pairs(line: str) -> list[tuple[str, str]]:
    made = expanded(parse(line), ["web", "web2", "db"], ["h1", "h2"])
    return [(c.source, c.target) for c in made]


def test_names_stand_for_pairs_and_no_host_is_checked_against_itself() -> None:
    assert pairs("all -> all ok") == [
        ("web", "web2"), ("web", "db"), ("web2", "web"), ("web2", "db"), ("db", "web"),
        ("db", "web2"),
    ]  # fmt: skip
    assert pairs("web* -> db ok") == [("web", "db"), ("web2", "db")]
    assert pairs("web <-> db ok") == [("web", "db"), ("db", "web")]
    assert pairs("db,h1 -> hosts ok") == [("db", "h1"), ("db", "h2"), ("h1", "h2")]
    assert pairs("db -> 10.0.0.9 ok") == [("db", "10.0.0.9")]


@pytest.mark.parametrize("line", ["wed -> db ok", "10.0.0.1 -> db ok", "db -> db ok",
                                  "db <-> 10.0.0.1 ok"])  # fmt: skip
def test_pairs_that_cannot_be_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"no host or container|no pair|sends nothing"):
        pairs(line)


# reports


def result(line: str, seen: str, standing: Standing) -> Result:
    check = parse(line)
    node = Node(name=check.source, kind="container", host="h", netns="/x", state="running",
                addresses={"bridge": IPv4Interface("10.0.0.2/24")})  # fmt: skip
    q = Question(check=check, source=node, target=None, address="10.0.0.3", proto=check.proto,
                 port=check.port)  # fmt: skip
    return Result(question=q, seen=Seen(seen, "because"), standing=standing)  # type: ignore[arg-type]


RESULTS = [
    result("a -> b tcp/80 ok", "open", "pass"),
    result("c -> b tcp/80 blocked", "filtered", "pass"),
    result("a -> d tcp/80 ok", "filtered", "fail"),
    result("c -> d tcp/80 blocked", "open", "fail"),
    result("b -> d tcp/80 blocked", "filtered", "undetermined"),
    result("b -> a tcp/80 unrouted", "filtered", "fail"),
]


def test_the_matrix_distinguishes_leak_failure_and_inconclusive_silence() -> None:
    assert report.matrix(RESULTS) == (
        "tcp/80  b  d  a\n"
        "a       ✓  ✗\n"
        "c       ·  !\n"
        "b          ?  ✗"
    )  # fmt: skip
    assert not report.passed(RESULTS)
    assert not report.passed(RESULTS[4:5]), "what is undetermined does not hold"
    assert report.passed(RESULTS[:2])
    assert report.summary("x", RESULTS) == "x: 2 of 6 checks hold, 3 fail, 1 undetermined"


def test_a_failure_is_followed_by_what_a_trace_says() -> None:
    why = "BLOCKED (fw-drop): dropped in the host by rule 1 of filter DOCKER-USER"
    failed = replace(RESULTS[2], trace=why)
    lines = report.table([RESULTS[0], failed, RESULTS[1]]).splitlines()
    assert lines[3] == f"   trace: {why}"
    assert len(lines) == 5
    assert report.document("x", [failed])["checks"][0]["trace"] == why


def test_programs_get_the_same_as_people() -> None:
    document = report.document("x", RESULTS)
    assert document["ok"] is False
    assert [c["result"] for c in document["checks"]] == [r.standing for r in RESULTS]
    assert {c["observed"] for c in document["checks"]} == {"open", "filtered"}


# pictures


LAB = """
underlay: {lan: {}}
hosts:
  h1:
    interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}
    daemon: [-b, br0]
    networks: {lane: {}}
    containers: {web: {ports: ["8080:80"]}, db: {networks: [lane], links: []}}
  out: {daemon: false, interfaces: {eth0: {segment: lan}}}
"""


def test_the_topology_as_text() -> None:
    assert graph(parsed(LAB, "two"), "text") == (
        "two\n"
        "lan ================\n"
        "  |-- h1 eth0 10.0.0.1/24\n"
        "  |-- out eth0\n"
        "h1 (netkitd -b br0)\n"
        "  br0\n"
        "    |-- web -p 8080:80\n"
        "  lane\n"
        "    |-- db\n"
        "out (no daemon)\n"
    )


@pytest.mark.parametrize("folder", LABS, ids=lambda p: p.name)
def test_the_svg_of_every_lab_is_well_formed_and_names_everybody(folder: Path) -> None:
    lab = read(folder)
    root = ElementTree.fromstring(graph(lab, "svg"))
    texts = {t.text for t in root.iter("{http://www.w3.org/2000/svg}text")}
    names = {h.name for h in lab.hosts} | {c.name for _, c in lab.containers()}
    assert names <= texts
    width = int(root.attrib["width"])
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert int(box.attrib["x"]) + int(box.attrib["width"]) <= width


@pytest.mark.parametrize("folder", LABS, ids=lambda p: p.name)
def test_the_readme_of_every_lab_has_its_topology_as_it_is(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    picture = f"```mermaid\n{graph(read(folder), 'mermaid')}```"
    assert picture in text, f"{folder.name}/README.md should have\n{picture}"


# the journal


def test_the_journal_knows_what_may_be_there(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "a" / "lab"))
    assert not journal.exists()
    journal.note("begin", "lab", folder="/x")
    for host in ("h1", "h2"):
        journal.note("begin", "host", host=host)
    journal.note("done", "host", host="h1")
    assert journal.state("host", host="h1") == "done"
    assert journal.state("host", host="h2") == "begin"
    assert journal.state("host", host="h3") is None
    journal.note("gone", "host", host="h1")
    assert journal.begun("host", "host") == ["h2"]
    assert journal.fact("lab", "folder") == "/x"
    journal.remove()
    assert not journal.folder.exists()


def test_a_line_that_a_crash_cut_short_does_not_count(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "lab"))
    journal.note("begin", "host", host="h1")
    with journal.file.open("a") as file:
        file.write('{"done": "host", "ho')
    assert journal.state("host", host="h1") == "begin"


def test_one_process_at_a_time_changes_a_lab(tmp_path: Path) -> None:
    places = Places(lab="x", state=str(tmp_path))
    with only_one(places), pytest.raises(InUse, match="another process"), only_one(places):
        pass
    with only_one(places):
        os.mkdir(places.folder)
    assert os.path.exists(places.lock)
    os.rmdir(places.folder)
    with only_one(places):
        pass
    assert not os.path.exists(places.lock), "the last one out deletes the lock"


class Given(Facts):
    """Facts of a lab that is not up."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = {n.name: n for n in nodes}

    def node(self, name: str) -> Node:
        return self._nodes[name]

    def between(self, source: Node, target: Node, where: str = "") -> str:
        return target.address()


@pytest.mark.parametrize(
    ("line", "standing"), [("a -> b icmp ok", "pass"), ("a -> b icmp blocked", "undetermined")]
)
def test_a_machine_without_room_for_a_neighbour_says_nothing_of_the_network(
    line: str, standing: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def full_at_first(_: str, __: str, address: str, *___: object) -> Seen:
        asked.append(address)
        if len(asked) < 3:
            raise KernelError("full", errno=errno.ENOBUFS)
        return Seen("open", "echo reply received")

    monkeypatch.setattr(checking, "probe", full_at_first)
    monkeypatch.setattr(checking, "AGAIN", 0)
    nodes = [
        Node(name=name, kind="container", host="h", netns=f"/nowhere/{name}", state="running",
             addresses={"bridge": IPv4Interface(f"10.0.0.{n}/24")})
        for n, name in enumerate("ab", 2)
    ]  # fmt: skip
    (found,) = checking.run(Given(nodes), [parse(line)], within=5)
    assert found.standing == standing
