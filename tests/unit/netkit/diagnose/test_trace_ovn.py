"""Traces through OVN's bridge: tunnels of any key, answers of the switch, names of what decides."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_interface, ip_network

import pytest

from netkit.diagnose.explain.facts import Facts, Interface, Path
from netkit.diagnose.trace import ofproto, switching
from netkit.diagnose.trace.facts import (
    Header,
    Output,
    Pipeline,
    Registers,
    SwitchPort,
)
from netkit.diagnose.trace.leg import Ask, Left, Tunnel
from netkit.model.ovn import LogicalPath
from tests.unit.netkit.diagnose.test_trace import FakeHost, OneHost, switched, traced

# Of Open vSwitch 3.1 with OVN 23.03, shortened.
NAMES = {6: ("br-int", "ovn-netkit-0"), 5: ("br-int", "nkv1")}
SENT = """\
bridge("br-int")
----------------
 0. in_port=2, priority 100, cookie 0x81d9f1cf
    resubmit(,8)
39. reg15=0x3,metadata=0x1, priority 100, cookie 0x76840c56
    set_field:0x1/0xffffff->tun_id
    output:3
     -> output to native tunnel
     -> tunneling to 169.254.250.1 via nku0
     -> tunneling from a2:83:b3:4b:52:38 169.254.250.2 to 22:50:79:44:bb:82 169.254.250.1

Final flow: icmp,reg11=0x3,reg14=0x2,reg15=0x3,tun_id=0x1,metadata=0x1,in_port=2,nw_frag=no
Datapath actions: """
PUSHED = (
    "tnl_push(tnl_port(6),header(size=58,type=5,eth(dst=22:50:79:44:bb:82,src=a2:83:b3:4b:52:38,"
    "dl_type=0x0800),ipv4(src=169.254.250.2,dst=10.9.0.2,proto=17,tos=0,ttl=64,frag=0x4000),"
    "udp(src=0,dst=6081,csum=0xffff),geneve(crit,vni=0x1,options({class=0x102,type=0x80,len=4,"
    "0x20003}))),out_port(3)),4"
)
OF_KERNEL = (
    "set(tunnel(tun_id=0x1,dst=10.9.0.2,ttl=64,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,"
    "0x20003}),flags(df|csum|key))),6"
)
ANSWERED = (
    "set(eth(src=9e:70:bb:f3:62:79,dst=32:e0:ee:0a:3f:97)),set(arp(sip=10.70.0.12,tip=10.70.0.11,"
    "op=2,sha=9e:70:bb:f3:62:79,tha=32:e0:ee:0a:3f:97)),5"
)
REGISTERS = Registers(
    switch=1, source=2, target=3, flows=((0x81D9F1CF, 100), (0x76840C56, 100))
)
GENEVE = SwitchPort(
    name="ovn-x-0", bridge="obr0", number=7, kind="geneve", remote=IPv4Address("10.0.0.2"),
    any_key=True,
)  # fmt: skip
DROPS = LogicalPath(
    switch="netkit-1", source="a", target="b", acl="0123456789ab-17-1", rule="17", drops=True
)


@pytest.mark.parametrize("actions", [PUSHED, OF_KERNEL])
def test_what_ovn_sends_with_a_packet_through_a_tunnel_is_read(actions: str) -> None:
    found = ofproto.pipeline(SENT + actions, NAMES)
    (out,) = found.outputs
    assert (str(out.remote), out.key, out.option) == ("10.9.0.2", 1, 0x20003)
    own = (IPv4Address("169.254.250.2"), IPv4Address("169.254.250.1"))
    assert (out.source, out.gateway) == (own if actions == PUSHED else (None, None))
    assert found.logical == REGISTERS
    assert found.unknown == ()


def test_a_question_about_a_packet_from_a_tunnel_has_what_came_with_it() -> None:
    header = Header(
        proto="icmp", src=IPv4Address("10.70.0.11"), dst=IPv4Address("10.70.0.12"), mac_src="a",
        mac_dst="b", tunnel=1, option=0x20003,
    )  # fmt: skip
    assert "in_port=2,tun_id=0x1,tun_metadata0=0x20003,dl_src=a" in ofproto.question(header, 2)
    assert "tun_" not in ofproto.question(replace(header, option=0), 2)


def test_an_answer_of_the_switch_to_an_arp_request_is_no_output() -> None:
    found = ofproto.pipeline(SENT + ANSWERED, NAMES)
    assert (found.answer, found.outputs, found.unknown) == ("9e:70:bb:f3:62:79", (), ())
    assert ofproto.pipeline(SENT + "5", NAMES).answer == ""


# What follows a recirculation, and the log of an ACL that has a name.
COMMITTED = "ct(commit,zone=2,mark=0/0x1,nat(src)),ct(zone=5),recirc(0x4)"
LOGGED = (
    "userspace(pid=0,controller(reason=1,dont_send=1,continuation=0,recirc_id=5,rule_cookie=0x4148,"
    "controller_id=0,max_len=65535))"
)


def passed(*passes: str) -> str:
    """The answer of ofproto/trace where each of them but the last is resumed."""
    out = ""
    for n, actions in enumerate(passes, 3):
        out += f"Datapath actions: {actions}\n\nrecirc(0x{n}) - resume conntrack with default\n"
    return out.rpartition("\nrecirc")[0]


def test_what_connection_tracking_resumes_is_followed_to_where_it_goes() -> None:
    found = ofproto.pipeline(
        passed("ct(zone=2),recirc(0x3)", COMMITTED, f"{LOGGED},ct(commit,zone=5,nat(src)),5"), NAMES
    )
    assert (found.outputs, found.unknown) == ((Output(port="nkv1"),), ())
    assert found.tracked
    assert not ofproto.pipeline(SENT + "5", NAMES).tracked


def test_an_output_before_a_tunnels_is_seen_in_each_pass() -> None:
    found = ofproto.pipeline(passed(f"{PUSHED},ct(zone=2),recirc(0x3)", "5"), NAMES)
    assert [(o.port, bool(o.remote)) for o in found.outputs] == [("", True), ("nkv1", False)]


@pytest.mark.parametrize(
    "actions",
    ["ct(zone=5,nat),recirc(0x3)", "ct(commit,zone=5,nat(dst=10.0.0.9)),5", f"{LOGGED},recirc(0x9)",
     LOGGED],
)  # fmt: skip
def test_translations_and_what_only_a_controller_does_are_not_followed(actions: str) -> None:
    assert ofproto.pipeline(passed(actions, "5"), NAMES).unknown


def test_an_answer_whose_way_depends_on_what_tracked_the_request_is_undetermined() -> None:
    new = ofproto.pipeline(passed("ct(zone=5),recirc(0x3)", "drop"), NAMES)
    known = ofproto.pipeline(passed("ct(zone=5),recirc(0x3)", "5"), NAMES)
    for one, two in ((new, known), (known, new)):
        found = ofproto.either(one, two)
        assert found.outputs, "or an ACL would be taken to drop it"
        assert any(word.startswith("ct(): ") for word in found.unknown)
    assert ofproto.either(known, known) == known


def test_port_security_that_drops_is_named_with_its_port() -> None:
    sent = LogicalPath(switch="s", source="a", target="b", guard="a", guards_in=True)
    found = traced(named(sent), target="172.17.0.2")
    assert (found.verdict, found.code) == ("BLOCKED", "source-guard")
    assert "by port security of port a: it sends from another MAC" in found.words
    assert found.fix.startswith("ovn-nbctl lsp-get-port-security a")
    got = traced(named(replace(sent, guard="b", guards_in=False)), target="172.17.0.2")
    assert (got.verdict, got.code) == ("BLOCKED", "ovs-drop")
    assert "by port security of port b: the frame is for another" in got.words


def test_an_acl_that_rejects_is_no_acl_that_lets_pass() -> None:
    found = traced(
        named(replace(DROPS, acl="theirs", rule="", drops=False, rejects=True)), target="172.17.0.2"
    )
    assert (found.verdict, found.code) == ("BLOCKED", "fw-reject")
    assert "rejects it by ACL theirs, of port b" in found.words
    assert not any("lets it pass" in s.why for s in found.request)


def test_a_bridge_without_registers_is_none_of_ovns() -> None:
    assert ofproto.pipeline("Final flow: unchanged\nDatapath actions: 5", NAMES).logical is None


def test_a_tunnel_of_any_key_is_left_with_the_flows_key() -> None:
    out = Output(remote=IPv4Address("10.0.0.2"), key=9, option=0x20003)
    fake = switched(out, tunnel=GENEVE)
    found = OneHost(fake).leg(Ask(proto="tcp", port=80, source="client", address="172.17.0.2"))
    assert found.left is not None
    (tunnel,) = found.left.tunnels
    assert (tunnel.kind, tunnel.key, tunnel.option) == ("geneve", 9, 0x20003)
    assert found.doubts == ()  # the outer packet was followed, as the host's own


def test_a_tunnel_that_leaves_by_a_bridges_nic_is_not_followed_and_stays_a_doubt() -> None:
    past = IPv4Address("10.0.0.99")  # no address of the host's
    out = Output(remote=IPv4Address("10.0.0.2"), key=9, source=past, gateway=past)
    fake = switched(out, tunnel=GENEVE)
    found = OneHost(fake).leg(Ask(proto="tcp", port=80, source="client", address="172.17.0.2"))
    assert [code for code, _ in found.doubts] == ["tunnel-unwatched"]


def test_a_tunnel_of_its_own_key_is_preferred_where_a_packet_arrives() -> None:
    own = replace(GENEVE, name="g9", number=8, any_key=False, key=9)
    fake = switched(tunnel=GENEVE)
    fake.ports = (*fake.ports, own)
    came = Left(
        dev="x", near="172.17.0.3",
        tunnels=(Tunnel(kind="geneve", remote="10.0.0.1", local="10.0.0.2", key=9, option=7),),
    )  # fmt: skip
    assert switching.arriving(came, fake).port == "g9"
    fake.ports = (fake.ports[0], GENEVE)
    frame = switching.arriving(came, fake)
    assert frame.port == "ovn-x-0"
    assert (frame.came, frame.any_key) == (came.tunnels[0], True)


def named(names: LogicalPath | None, *outputs: Output) -> FakeHost:
    fake = switched(*outputs, logical=REGISTERS)
    fake.names = names
    return fake


def test_the_rule_whose_acl_drops_is_named_with_its_remedy() -> None:
    found = traced(named(DROPS), target="172.17.0.2")
    assert (found.verdict, found.code) == ("BLOCKED", "access-rule")
    assert "by rule 17 of netkit fw, ACL 0123456789ab-17-1, of port b" in found.words
    assert found.fix == "netkit fw rm 17"
    (step,) = [s for s in found.request if s.what == "logical"]
    assert step.why.startswith("logical switch netkit-1: a -> b, rule 17 of netkit fw, ACL")


def test_an_administrators_acl_is_named_and_never_to_be_removed_by_netkit() -> None:
    found = traced(named(replace(DROPS, acl="theirs", rule="")), target="172.17.0.2")
    assert found.code == "access-rule"
    assert "by ACL theirs, of port b" in found.words
    assert found.fix.startswith("ovn-nbctl acl-list netkit-1")


def test_a_port_that_no_host_has_is_called_so() -> None:
    found = traced(named(LogicalPath(switch="s", target="b", unbound=True)), target="172.17.0.2")
    assert found.code == "ovs-drop"
    assert "logical port b is bound to no host" in found.words


def test_without_the_southbound_database_the_way_is_followed_without_names() -> None:
    out = Output(remote=IPv4Address("10.0.0.2"), key=5)
    found = traced(named(None, out), target="172.17.0.2")
    assert found.code == "beyond"
    assert any("names are not known" in s.why for s in found.request)


def test_an_acl_that_lets_it_pass_does_not_end_the_way() -> None:
    out = Output(remote=IPv4Address("10.0.0.2"), key=5)
    found = traced(named(replace(DROPS, drops=False), out), target="172.17.0.2")
    assert found.code == "beyond"
    assert any("lets it pass" in s.why for s in found.request)


def test_the_switchs_answer_is_the_mac_address_that_is_sent_to() -> None:
    fake = switched(Output(remote=IPv4Address("10.0.0.2"), key=5))
    fake.spaces["client"] = replace(fake.spaces["client"], neighbours={})
    sent = fake.pipelines["obr0", 3, "tcp"]
    answer = Pipeline(outputs=(), rules=sent.rules, answer="02:00:00:00:00:07")
    fake.pipelines = {("obr0", 3, "tcp"): sent, ("obr0", 3, "arp"): answer}
    ask = Ask(proto="tcp", port=80, source="client", address="172.17.0.2")
    found = OneHost(fake).leg(ask)
    assert found.left is not None
    assert found.left.mac_dst == "02:00:00:00:00:07"


def test_an_address_that_the_table_local_lacks_is_routed_like_others() -> None:
    end = IPv4Address("169.254.250.2")
    nic = Interface(name="nku0", addresses=(ip_interface(f"{end}/30"),))
    path = Path(dst=ip_network(f"{end}/32"), dev="nkuh")
    facts = Facts(interfaces={"nku0": nic}, routes=(path,))
    assert facts.is_local(end)
    routed = replace(facts, routed=frozenset({end}))
    assert not routed.is_local(end)
    assert routed.route(end) == path
