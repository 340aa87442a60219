"""Schedules: what is understood, what is refused, and what a stream of probes says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.errors import InvalidSpec
from netkit.lab.model import Lab
from netkit.lab.reading import LabFile
from netkit.lab.reading import parsed as lab_of
from netkit.lab.recovery import Outage, Probe, outage
from netkit.lab.schedule import parsed

HOSTS = """
underlay: {lan: {}}
hosts:
  h1: {interfaces: {eth0: {segment: lan}}}
  h2: {daemon: false, interfaces: {eth0: {segment: lan}}}
  h3: {daemon: false, interfaces: {eth0: {segment: lan}}}
schedule:
"""


def lab(*events: str) -> Lab:
    return lab_of(HOSTS + "".join(f"  {event}\n" for event in events), "lab")


def test_events_are_in_the_order_of_their_times() -> None:
    found = lab(
        'late: {at: 5s, do: "impair h1 delay 20ms jitter 5ms from h1 for 500ms"}',
        "cut: {do: link lan down, during: [h1 -> h2 blocked], recover: [h1 <-> h2], within: 2s}",
        "killed: {at: 1s, do: host h1 daemon killed for 1s}",
        'apart: {at: 2s, do: "partition {h1,h2}|{h3} for 1s"}',
    ).schedule
    assert [(e.name, e.at, e.end) for e in found] == [
        ("cut", 0, None), ("killed", 1, 2), ("apart", 2, 3), ("late", 5, 5.5),
    ]  # fmt: skip
    cut, killed, apart, late = found
    assert (cut.fault.kind, cut.fault.link, cut.fault.request.down, cut.within) == (
        "link", "lan", True, 2,
    )  # fmt: skip
    assert [str(r) for r in cut.recover] == ["h1 -> h2", "h2 -> h1"]
    assert [str(c) for c in cut.during] == ["h1 -> h2 blocked"]
    assert killed.fault.host == "h1"
    assert apart.fault.groups == (("h1", "h2"), ("h3",))
    assert late.fault.request.values == {"delay": "20ms", "jitter": "5ms"}
    assert late.fault.request.source == "h1"


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ("e: {do: link lam down}", "has no link 'lam', did you mean 'lan'"),
        ("e: {do: host h2 daemon killed}", "no host with a daemon is called 'h2'"),
        ("e: {do: 'partition {h1}|{h4}'}", "no host is called 'h4'"),
        ("e: {do: 'partition {h1}|{h2}'}", "on which side are h3"),
        ("e: {do: 'partition {h1,h2}|{h2,h3}'}", "h2 is on two sides"),
        ("e: {do: 'partition {h1}|{}|{h2,h3}'}", "a side of the partition is empty"),
        ("e: {do: link lan up}", "is nothing that can go wrong here: write link LINK down"),
        ("e: {do: link lan down for 2}", "duration '2' has no unit: write 2s"),
        ("e: {do: link lan down for 0s}", "lasts no time"),
        ("e: {do: link lan down for 2s maybe}", "`for` and a duration end a line"),
        ("e: {do: impair lan loss 200%}", "loss 200% is more than 100%"),
        ("e: {do: impair lan loss}", "write names and values"),
        ("e: {do: impair lan loss 1% from h9}", "no host 'h9' sends into this link"),
        ("e: {at: 2h, do: link lan down}", "unknown unit 'h'"),
        ("e: {at: 3601s, do: link lan down}", "longer than an hour"),
        ("e: {do: link lan down, within: 1s}", "within: of which path"),
        ("e: {do: link lan down, during: [h1 -> h9 ok]}", "h9"),
        ("e: {do: link lan down, wihtin: 1s}", "did you mean 'within'"),
        ("e: {at: 1s}", "lacks the key 'do'"),
    ],
)
def test_what_cannot_happen_is_refused_with_its_place(event: str, why: str) -> None:
    with pytest.raises(LabFile, match=why) as caught:
        lab(event)
    assert "schedule" in str(caught.value)


WORDS = st.sampled_from(
    [*"link impair host partition down daemon killed for from 2s lan loss 1% | { }".split(),
     "{h1}|{h2}"]
)  # fmt: skip


@given(st.lists(st.one_of(WORDS, st.text(max_size=8))).map(" ".join))
def test_any_line_is_a_fault_or_refused(line: str) -> None:
    try:
        found = parsed(line)
    except InvalidSpec:
        return
    assert found.seconds is None or found.seconds > 0
    assert found.kind in {"link", "daemon", "partition"}


def probes(text: str) -> list[Probe]:
    """One each 0.1 s: `.` is answered after 0.01 s, `x` is not."""
    return [Probe(n / 10, n / 10 + 0.01 if c == "." else None) for n, c in enumerate(text)]


def test_a_path_works_again_from_the_first_of_five_answers() -> None:
    found = outage(probes("..xxxxx.xx......"), 0.15, 0.5)
    assert (found.sent, found.lost) == (8, 7)
    assert found.recovery == pytest.approx(0.51)
    assert found.outage == pytest.approx(0.81)


def test_an_answer_before_the_end_of_a_fault_is_no_recovery() -> None:
    assert outage(probes("x........."), 0.0, 0.55).recovery is None  # four answers since
    assert outage(probes("x......xxxxxxx"), 0.0, 0.55).recovery is None


def test_where_nothing_is_lost_there_was_no_outage() -> None:
    assert outage(probes("." * 12), 0.0, 0.5) == Outage(sent=5, lost=0, outage=0.0, recovery=0.0)


def test_what_does_not_recover_says_so() -> None:
    found = outage(probes("..xxxxxxxx"), 0.15, 0.3)
    assert found == Outage(sent=8, lost=8, outage=pytest.approx(0.7), recovery=None)
    assert outage([], 0.0, 1.0).recovery is None
