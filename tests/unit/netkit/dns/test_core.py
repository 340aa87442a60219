"""Answers to single queries, read with dnspython, which shares no code with us."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.dns import core
from netkit.dns.zones import ResolverView, Zone


def view(
    names: Mapping[str, tuple[str, ...]] | None = None,
    *,
    forward: bool = True,
    upstreams: tuple[str, ...] = ("192.0.2.1",),
) -> ResolverView:
    zone = Zone(
        id="n",
        name="front",
        names=names or {"web": ("10.1.0.2",), "many": ("10.1.0.2", "10.1.0.3", "10.1.0.4")},
        reverse={"10.1.0.2": "web.front"},
    )
    return ResolverView(zones=(zone,), upstreams=upstreams, forward=forward)


def ask(
    query: dns.message.Message, v: ResolverView | None = None, *, tcp: bool = False, turn: int = 0
) -> dns.message.Message:
    decision = core.answer(v or view(), query.to_wire(), tcp, turn)
    assert isinstance(decision, core.Reply), decision
    reply = dns.message.from_wire(decision.message)
    assert query.is_response(reply)
    assert reply.flags & dns.flags.RA
    return reply


def question(name: str, kind: str = "A", **more: object) -> dns.message.Message:
    return dns.message.make_query(name, kind, **more)


def found(reply: dns.message.Message) -> list[str]:
    return [str(record) for answer in reply.answer for record in answer]


@pytest.mark.parametrize("name", ["web.", "WeB.", "web.front.", "Web.Front."])
@pytest.mark.parametrize("tcp", [False, True])
def test_a_name_has_its_address_in_any_case(name: str, tcp: bool) -> None:
    reply = ask(question(name), tcp=tcp)
    assert found(reply) == ["10.1.0.2"]
    assert str(reply.answer[0].name) == name
    assert reply.answer[0].ttl == core.TTL < 30


def test_addresses_take_turns_to_be_first() -> None:
    query = question("many.")
    wires = [core.answer(view(), query.to_wire(), False, turn) for turn in range(3)]
    firsts = {
        str(dns.message.from_wire(w.message, one_rr_per_rrset=True).answer[0][0])
        for w in wires
        if isinstance(w, core.Reply)
    }
    assert firsts == {"10.1.0.2", "10.1.0.3", "10.1.0.4"}


@pytest.mark.parametrize("kind", ["AAAA", "TXT", "MX", "SRV", "HTTPS", "CNAME", "ANY", "NS"])
def test_other_types_of_an_own_name_are_empty_and_not_asked_for_elsewhere(kind: str) -> None:
    reply = ask(question("web.", kind))
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])


def test_an_own_address_has_a_name() -> None:
    name = dns.reversename.from_address("10.1.0.2")
    assert found(ask(question(str(name), "PTR"))) == ["web.front."]
    assert found(ask(question(str(name).upper(), "PTR"))) == ["web.front."]
    assert found(ask(question(str(name), "TXT"))) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("example.com.", "A"),
        ("web.back.", "A"),
        ("3.0.1.10.in-addr.arpa.", "PTR"),
        ("0.1.10.in-addr.arpa.", "PTR"),
        (".", "NS"),
        ("a\\.b.example.", "A"),
    ],
)
def test_what_is_not_ours_is_forwarded(name: str, kind: str) -> None:
    query = question(name, kind).to_wire()
    assert core.answer(view(), query, False) == core.Forward(query[12:])


LANE = ResolverView(
    zones=(Zone(
        id="n", name="lane", domain="weave.local", below=("lane.weave.local",),
        names={"web": ("10.1.0.2", "fd00::2", "10.1.0.3"), "six": ("fd00::2",)},
        reverse={"10.1.0.2": "web.lane.weave.local", "fd00::2": "six.lane.weave.local"},
    ),),
    upstreams=("192.0.2.1",),
)  # fmt: skip


def test_addresses_of_both_kinds_are_told_apart() -> None:
    for name in ("web.", "WEB.Lane.weave.LOCAL."):
        assert sorted(found(ask(question(name), LANE))) == ["10.1.0.2", "10.1.0.3"]
        assert found(ask(question(name, "AAAA"), LANE)) == ["fd00::2"]
        assert found(ask(question(name, "TXT"), LANE)) == []
    assert ask(question("six."), LANE).rcode() == dns.rcode.NOERROR
    for address, name in LANE.zones[0].reverse.items():
        asked = str(dns.reversename.from_address(address))
        assert found(ask(question(asked, "PTR"), LANE)) == [f"{name}."]
    for odd in ("2.ip6.arpa.", "x." * 32 + "ip6.arpa."):
        query = question(odd, "PTR").to_wire()
        assert isinstance(core.answer(LANE, query, False), core.Forward)


def test_what_is_not_there_below_an_overlay_s_domain_is_never_forwarded() -> None:
    for name in ("x.weave.local.", "x.lane.weave.local.", "web.other.weave.local.",
                 "a\\.b.weave.local.", "a\\000b.Weave.local."):  # fmt: skip
        assert ask(question(name), LANE).rcode() == dns.rcode.NXDOMAIN
    for name in ("weave.local.", "lane.weave.local."):
        reply = ask(question(name), LANE)
        assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
    for name in ("weave.example.", "xweave.local.", "local."):
        query = question(name).to_wire()
        assert isinstance(core.answer(LANE, query, False), core.Forward)


def test_a_dot_inside_a_label_is_not_a_separator() -> None:
    query = question("web\\.front.").to_wire()
    assert isinstance(core.answer(view(), query, False), core.Forward)


@pytest.mark.parametrize("v", [view(forward=False), view(upstreams=())])
def test_without_forwarding_what_is_not_ours_fails(v: ResolverView) -> None:
    assert ask(question("example.com."), v).rcode() == dns.rcode.SERVFAIL
    assert found(ask(question("web."), v)) == ["10.1.0.2"]


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_transfers_are_refused(kind: str) -> None:
    assert ask(question("web.", kind), tcp=True).rcode() == dns.rcode.REFUSED


def test_other_classes_are_refused() -> None:
    assert ask(question("version.bind.", "TXT", rdclass="CH")).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("opcode", [dns.opcode.NOTIFY, dns.opcode.UPDATE, dns.opcode.STATUS])
def test_other_opcodes_are_not_implemented(opcode: dns.opcode.Opcode) -> None:
    query = question("web.")
    query.set_opcode(opcode)
    decision = core.answer(view(), query.to_wire(), False)
    assert isinstance(decision, core.Reply)
    reply = dns.message.from_wire(decision.message)
    assert (reply.id, reply.opcode(), reply.rcode()) == (query.id, opcode, dns.rcode.NOTIMP)


@pytest.mark.parametrize(("payload", "records"), [(None, 30), (1232, 75), (65000, 200)])
def test_udp_answers_are_cut_to_what_the_client_takes(payload: int | None, records: int) -> None:
    v = view({"all": tuple(f"10.1.0.{n}" for n in range(1, 201))})
    query = question("all.", use_edns=False if payload is None else 0, payload=payload or 0)
    decision = core.answer(v, query.to_wire(), False)
    assert isinstance(decision, core.Reply)
    assert len(decision.message) <= min(payload or 512, core.MOST_UDP)
    reply = ask(query, v)
    assert len(found(reply)) == records
    assert bool(reply.flags & dns.flags.TC) == (records < 200)
    whole = ask(query, v, tcp=True)
    assert len(found(whole)) == 200
    assert not whole.flags & dns.flags.TC


def test_a_query_with_edns_is_answered_with_edns() -> None:
    options = [dns.edns.CookieOption(b"12345678", b"")]
    reply = ask(question("web.", use_edns=0, payload=1232, options=options))
    assert (reply.edns, reply.payload, found(reply)) == (0, core.MOST_UDP, ["10.1.0.2"])
    assert ask(question("web.", use_edns=False)).edns == -1


def test_an_unknown_version_of_edns_is_refused() -> None:
    assert ask(question("web.", use_edns=1)).rcode() == dns.rcode.BADVERS


def test_an_odd_additional_section_is_read_as_well() -> None:
    query = question("web.", use_edns=0, payload=1232)
    query.additional.append(dns.rrset.from_text("x.", 1, "IN", "A", "192.0.2.9"))
    assert found(ask(query)) == ["10.1.0.2"]


HEADER = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0)


@pytest.mark.parametrize(
    "query",
    [
        HEADER,
        HEADER + b"\x03web",
        HEADER + b"\x03web\0",
        HEADER + b"\xc0\x0c\0\1\0\1",
        HEADER + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
        struct.pack("!6H", 7, 0x0100, 2, 0, 0, 0) + b"\x03web\0\0\1\0\1" * 2,
        struct.pack("!6H", 7, 0x0100, 0, 0, 0, 0),
        struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1) + b"\x03web\0\0\1\0\1\0\0",
        struct.pack("!6H", 7, 0x0100, 1, 0, 0, 2)
        + b"\x03web\0\0\1\0\1"
        + b"\0\0\x29\4\xd0\0\0\0\0\0\0" * 2,
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_format_error(query: bytes) -> None:
    decision = core.answer(view(), query, False)
    assert isinstance(decision, core.Reply)
    assert decision.message == struct.pack("!6H", 7, 0x8181, 0, 0, 0, 0)


def test_answers_and_scraps_are_dropped() -> None:
    reply = dns.message.make_response(question("web.")).to_wire()
    assert core.answer(view(), reply, False) == core.Drop()
    assert core.answer(view(), b"\0\1", False) == core.Drop()


@pytest.mark.slow
@given(st.binary(max_size=80), st.booleans())
def test_no_bytes_upset_it(tail: bytes, question_only: bool) -> None:
    head = HEADER if question_only else struct.pack("!6H", 7, 0x0100, 1, 0, 1, 1)
    for query in (tail, head + tail, head + b"\x03web\0\0\1\0\1" + tail):
        decision = core.answer(view(), query, False)
        if isinstance(decision, core.Reply):
            dns.message.from_wire(decision.message)
        elif isinstance(decision, core.Forward):
            assert core.rcode(core.failure(query, core.SERVFAIL)) == core.SERVFAIL


def test_only_an_answer_to_our_question_matches() -> None:
    query = question("Example.com.", id=7)
    wire, reply = query.to_wire(), dns.message.make_response(query).to_wire()
    asked = wire[12:]
    assert core.matches(reply, 7, asked)
    assert core.matches(reply[:12] + asked.lower(), 7, asked)
    assert not core.matches(reply, 8, asked)
    assert not core.matches(wire, 7, asked)  # no answer at all
    assert not core.matches(reply, 7, question("example.org.").to_wire()[12:])
    assert not core.matches(reply[:20], 7, asked)
