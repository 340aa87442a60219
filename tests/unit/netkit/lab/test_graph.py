"""Pictures of labs: the same each time, and names with characters that mean something there."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from netkit.lab.dot import dot, quoted
from netkit.lab.graph import graph
from netkit.lab.reading import parsed, read
from tests.places import ROOT

LABS = sorted(p.parent for p in (ROOT / "labs").glob("*/lab.yml"))
LAB = """
underlay: {lan: {}}
hosts:
  h1:
    interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}
    daemon: [-b, 'br"0<\\>']
    networks: {lane: {}}
    containers:
      end: {ports: ["8080:80"]}
      db: {networks: {lane: 10.9.0.7}}
      app: {networks: [lane], links: ["db:d"]}
  out: {daemon: false, interfaces: {eth0: {segment: lan}}}
"""
DOT = r'''graph "two" {
  graph [fontname="sans-serif"]
  node [fontname="sans-serif", shape=box, style=rounded]
  edge [fontname="sans-serif", fontsize=10]
  "segment lan" [label="lan", shape=box, style=bold]
  subgraph "cluster h1" {
    label="h1"
    "host h1" [label="netkit", shape=ellipse]
    "container end" [label="end\n8080:80"]
    "container db" [label="db"]
    "container app" [label="app"]
    "network h1 bridge" [label="br\"0<\\>", shape=hexagon]
    "host h1" -- "network h1 bridge"
    "network h1 bridge" -- "container end"
    "network h1 lane" [label="lane", shape=hexagon]
    "host h1" -- "network h1 lane"
    "network h1 lane" -- "container db" [label="10.9.0.7"]
    "network h1 lane" -- "container app"
  }
  subgraph "cluster out" {
    label="out"
    "host out" [label="no daemon", shape=ellipse]
  }
  "segment lan" -- "host h1" [label="eth0\n10.0.0.1/24"]
  "segment lan" -- "host out" [label="eth0"]
  "container app" -- "container db" [style=dashed, label="link d"]
}
'''
MERMAID = '''graph TD
  seg_lan[[lan]]
  subgraph h1
    h1_bridge{{"br#quot;0#lt;\\#gt;"}}
    h1_bridge --- end_(["end"])
    h1_lane{{lane}}
    h1_lane --- db([db])
    h1_lane --- app([app])
  end
  subgraph out
    out_self(out)
  end
  seg_lan ---|eth0 10.0.0.1/24| h1
  seg_lan ---|eth0| out
  app -.->|link| db
'''


def test_dot_is_as_it_was() -> None:
    assert dot(parsed(LAB, "two")) == DOT


def test_mermaid_is_as_it_was() -> None:
    assert graph(parsed(LAB, "two"), "mermaid") == MERMAID


def test_svg_escapes_what_xml_has_a_meaning_for() -> None:
    root = ElementTree.fromstring(graph(parsed(LAB, "two"), "svg"))
    texts = {t.text for t in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {'br"0<\\>', "end", "h1"} <= texts


@pytest.mark.parametrize("folder", LABS, ids=lambda p: p.name)
def test_dot_of_every_lab_is_balanced_and_names_everything(folder: Path) -> None:
    lab = read(folder)
    text = dot(lab)
    assert text == dot(read(folder))
    bare = re.sub(r'"(\\.|[^"\\])*"', "S", text)  # strings are whole
    assert '"' not in bare
    assert bare.count("{") == bare.count("}") == len(lab.hosts) + 1
    for host in lab.hosts:
        assert quoted(f"host {host.name}") in text
    for _, c in lab.containers():
        assert quoted(f"container {c.name}") in text
