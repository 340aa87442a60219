"""What the page of a lab is given: engines, hosts, segments; and what it cannot ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from netkit.errors import InvalidSpec, NotFound
from netkit.lab import reading
from netkit.lab.model import Places
from netkit.lab.ui import LabPage, sources

LAB = """\
summary: Two engines and a machine
underlay: {lan: {}}
hosts:
  h1: {interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}, containers: {web: {}}}
  h2: {engine: docker, interfaces: {eth0: {segment: lan, address: 10.0.0.2/24}}}
  pc: {daemon: false, interfaces: {eth0: {segment: lan}}}
checks:
  - web -> pc icmp ok
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "lab.yml").write_text(LAB)
    folder = str(tmp_path)
    return Places(lab="two", state=f"{folder}/run", disk=f"{folder}/lib", short=f"{folder}/nkl")


@pytest.fixture
def page(tmp_path: Path, places: Places) -> LabPage:
    return LabPage(reading.read(str(tmp_path), "two"), places)


def test_hosts_with_an_engine_are_asked_at_their_sockets(tmp_path: Path, places: Places) -> None:
    one, two = sources(reading.read(str(tmp_path), "two"), places)
    assert (one.name, two.name) == ("h1", "h2")
    assert one.netkit == one.engine
    assert one.netkit.path == places.socket("h1")
    assert (two.netkit.path, two.engine.path) == (places.socket("h2"), places.engine("h2"))


def test_the_document_has_what_does_not_change(page: LabPage) -> None:
    found = page.document()
    assert (found["name"], found["summary"]) == ("two", "Two engines and a machine")
    assert found["segments"] == [{"name": "lan"}]
    assert found["links"] == ["lan", "h1@eth0", "h2@eth0", "pc@eth0"]
    assert found["checks"] == ["web -> pc icmp ok"]
    assert [(h["name"], h["engine"]) for h in found["hosts"]] == [
        ("h1", "netkit"), ("h2", "docker"), ("pc", ""),
    ]  # fmt: skip
    nics = [h["interfaces"] for h in found["hosts"]]
    assert nics[0] == [{"name": "eth0", "segment": "lan", "address": "10.0.0.1/24"}]
    assert nics[2] == [{"name": "eth0", "segment": "lan", "address": ""}]


def test_a_lab_that_is_not_up_is_not_checked_and_a_word_is_no_verb(page: LabPage) -> None:
    assert not page.up
    with pytest.raises(NotFound, match="not up"):
        page.act("check", print, {})
    with pytest.raises(NotFound, match="not up"):
        page.act("impair", print, {"link": "lan", "words": "delay 20ms"})
    assert page.links() == {}
    with pytest.raises(InvalidSpec, match="there is up, check, down, impair, not 'restart'"):
        page.act("restart", print, {})


def test_names_that_are_not_the_labs_are_left_to_its_engines(page: LabPage) -> None:
    assert page.trace("world", "web", "icmp") is None
    assert page.trace("web", "10.0.0.9", "icmp") is None
