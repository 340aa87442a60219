"""Which links a user means, and what is to change of them."""

from __future__ import annotations

import pytest

from netkit.errors import InvalidSpec, NotFound
from netkit.lab.impairing import mechanism, resources
from netkit.lab.impairment_request import ImpairmentRequest
from netkit.lab.links import changed_by, chosen, ends
from netkit.lab.model import Lab, Places
from netkit.lab.reading import LabFile, parsed
from netkit.model import Link, state
from netkit.model.impairment import Impairment, TwoWay

HOST = "daemon: false, interfaces"
LAB = f"""
underlay: {{wan: {{impair: {{delay: 20ms}}}}, lan: {{}}}}
hosts:
  a: {{{HOST}: {{eth0: {{segment: wan}}}}}}
  b: {{{HOST}: {{eth0: {{segment: wan, impair: {{in: {{loss: 1%}}}}}}, eth1: {{segment: lan}}}}}}
  c: {{{HOST}: {{eth0: {{segment: lan}}}}}}
  d: {{{HOST}: {{eth0: {{segment: lan}}}}}}
"""
SLOW, LOSSY, DOWN = Impairment(delay=0.02), Impairment(loss=0.01), Impairment(down=True)


def lab() -> Lab:
    return parsed(LAB, "links")


def by_file() -> dict[str, TwoWay]:
    one = lab()
    return {str(e): one.impairment(e.host.name, e.interface.name) for e in ends(one)}


def after(link: str, **request: object) -> dict[str, TwoWay]:
    one = lab()
    full = ImpairmentRequest(**{"values": {}, **request})  # type: ignore[arg-type]
    return changed_by(one, by_file(), chosen(one, link), full)


def test_a_segment_impairs_what_is_sent_into_it_and_an_interface_has_its_own() -> None:
    assert by_file() == {
        "a@eth0": TwoWay(out=SLOW), "b@eth0": TwoWay(into=LOSSY), "b@eth1": TwoWay(),
        "c@eth0": TwoWay(), "d@eth0": TwoWay(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [("a", ["a@eth0"]), ("b@eth1", ["b@eth1"]), ("wan", ["a@eth0", "b@eth0"]),
     ("b-a", ["a@eth0", "b@eth0"]), ("lan", ["b@eth1", "c@eth0", "d@eth0"])],
)  # fmt: skip
def test_links_are_named_by_an_end_or_what_they_connect(text: str, found: list[str]) -> None:
    assert [str(e) for e in chosen(lab(), text).ends] == found


@pytest.mark.parametrize(
    ("text", "why"),
    [("b", "b has several links: name one of b@eth0, b@eth1"),
     ("wam", "has no link 'wam', did you mean 'wan'"),
     ("c-d", r"lan connects b, c, d, not c and d alone: name an end, as c@eth0"),
     ("a-c", "has no link 'a-c'"), ("a-a", "has no link 'a-a'")],
)  # fmt: skip
def test_what_names_no_link_is_refused(text: str, why: str) -> None:
    with pytest.raises(NotFound, match=why):
        chosen(lab(), text)


def test_what_is_not_given_stays() -> None:
    assert after("b@eth0", values={"delay": "1ms"}) == {
        "b@eth0": TwoWay(out=Impairment(delay=0.001), into=Impairment(delay=0.001, loss=0.01))
    }
    assert after("a", values={"loss": "0%", "delay": "0ms"}) == {"a@eth0": TwoWay()}


def test_clear_comes_first_and_reaches_both_ways() -> None:
    lossy = {"a@eth0": TwoWay(out=LOSSY), "b@eth0": TwoWay(out=LOSSY)}
    assert after("wan", values={"loss": "1%"}, clear=True) == lossy
    assert after("b@eth0", clear=True) == {"b@eth0": TwoWay()}


def test_a_segment_is_down_at_all_its_ends_and_up_again() -> None:
    down = after("wan", down=True)
    assert down == {"a@eth0": TwoWay(out=DOWN, into=DOWN), "b@eth0": TwoWay(out=DOWN, into=DOWN)}
    one = lab()
    up = changed_by(one, down, chosen(one, "wan"), ImpairmentRequest(values={}, down=False))
    assert set(up.values()) == {TwoWay()}


def test_one_way_is_what_one_host_sends() -> None:
    assert after("lan", values={"loss": "1%"}, source="c") == {
        "b@eth1": TwoWay(), "c@eth0": TwoWay(out=LOSSY), "d@eth0": TwoWay(),
    }  # fmt: skip
    assert after("a", values={"loss": "1%"}, source="b") == {"a@eth0": TwoWay(out=SLOW, into=LOSSY)}
    with pytest.raises(NotFound, match="no host 'd' sends into this link"):
        after("wan", down=True, source="d")
    with pytest.raises(NotFound, match="impair what b sends at its own end"):
        after("c", down=True, source="b")


def test_what_makes_no_sense_together_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="jitter without delay"):
        after("c", values={"jitter": "1ms"})
    with pytest.raises(InvalidSpec, match="down lets nothing pass"):
        after("c", values={"loss": "1%"}, down=True)


@pytest.mark.parametrize(
    ("line", "why"),
    [("underlay: {lan: {impair: {down: true}}}", "underlay.lan.impair: out, in and down are an"),
     ("underlay: {lan: {impair: {delay: 20}}}", "underlay.lan.impair: delay: 20 has no unit"),
     ("hosts: {h: {interfaces: {e: {segment: lan, impair: {dealy: 1ms}}}}}",
      "hosts.h.interfaces.e.impair: unknown impairment 'dealy', did you mean 'delay'")],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_refused_with_its_place(line: str, why: str) -> None:
    text = line if "hosts" in line else f"{line}\nhosts: {{h: {{}}}}"
    with pytest.raises(LabFile, match=why):
        parsed(text if "underlay" in text else f"underlay: {{lan: {{}}}}\n{text}", "bad")


@pytest.mark.parametrize(
    ("way", "how", "devices"),
    [(TwoWay(), "none", 1), (TwoWay(out=DOWN, into=DOWN), "link down", 1),
     (TwoWay(out=DOWN), "relay", 4), (TwoWay(into=SLOW), "relay", 4)],
)  # fmt: skip
def test_a_relay_stands_between_the_cable_and_the_segment(
    way: TwoWay, how: str, devices: int
) -> None:
    one = lab()
    end = chosen(one, "a").ends[0]
    made = {r.name: r for r in resources(one, Places(lab="links"), end, way)
            if isinstance(r, Link)}  # fmt: skip
    assert (mechanism(way), len(made)) == (how, devices)
    assert len(state(made.values())) == devices
    cable = made["a-eth0"]
    assert cable.up is (how != "link down")
    if how == "relay":
        assert (cable.master, made["a-eth0~n"].master) == ("a-eth0~b", "a-eth0~b")
        assert made["a-eth0~f"].master == "wan"
    else:
        assert cable.master == "wan"
