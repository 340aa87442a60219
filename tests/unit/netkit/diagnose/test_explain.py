"""netkit.diagnose.explain on rule sets and hosts written down here: no root, no kernel."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec
import pytest

from netkit.diagnose.explain.answer import Explanation, explain
from netkit.diagnose.explain.facts import (
    Container,
    Facts,
    Guard,
    Interface,
    Path,
    Place,
    Published,
    Switched,
)
from netkit.diagnose.explain.listed import layer2, nft
from netkit.diagnose.explain.question import Question, question
from netkit.diagnose.explain.ruleset import RuleSet
from netkit.diagnose.explain.saved import iptables, split
from netkit.diagnose.explain.words import text
from netkit.errors import InvalidSpec, NotFound, NotSupported
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables

NET, WEB, MATE = "a" * 12, "b" * 12, "c" * 12
FAR = "lan:198.51.100.9@lan0"
MARK = f'-m comment --comment "netkit:0:{NET}:{WEB} 0123456789abcdef 10"'
NAT = f"""*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.18.0.0/16 ! -o br0 -j MASQUERADE
-A DOCKER -p tcp -m tcp --dport 8080 {MARK} -j DNAT --to-destination 172.18.0.2:80
COMMIT
"""
OPEN = (
    "-A DOCKER -d 172.18.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 "
    f"-m conntrack --ctstate DNAT {MARK} -j ACCEPT"
)
CLOSED = (
    f'-A DOCKER ! -i br0 -o br0 -m comment --comment "netkit:0:{NET} 00000000000000ff 40" -j DROP'
)


def filters(user: str = "", forward: str = "", policy: str = "ACCEPT") -> str:
    return f"""*filter
:INPUT ACCEPT [0:0]
:FORWARD {policy} [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
:DOCKER - [0:0]
:EXTRA - [0:0]
{forward}
-A FORWARD -j DOCKER-USER
-A FORWARD -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o br0 -j DOCKER
-A FORWARD -i br0 -j ACCEPT
{user}
{OPEN}
{CLOSED}
COMMIT
"""


def place(name: str, last: int, id: str) -> Container:
    here = Place(
        network="one",
        address=IPv4Interface(f"172.18.0.{last}/16"),
        ifname="eth0",
        port=f"veth-{name}",
        bridge="br0",
        id=id.ljust(64, "0"),
        mac=f"02:42:ac:12:00:{last:02x}",
    )
    routes = (
        Path(dst=IPv4Network("172.18.0.0/16"), dev="eth0"),
        Path(dst=IPv4Network("0.0.0.0/0"), dev="eth0", gateway=IPv4Address("172.18.0.1")),
    )
    return Container(name=name, places=(here,), routes=routes)


def host(*texts: str, lan: Interface | None = None, br: Interface | None = None) -> Facts:
    """lan0 198.51.100.1/24 | br0 172.18.0.1/16 with web .2 and mate .3"""
    ports = [Interface(name=f"veth-{n}", master="br0") for n in ("web", "mate")]
    links = [
        Interface(name="lo", addresses=(IPv4Interface("127.0.0.1/8"),)),
        lan or LAN0,
        br or BR0,
        *ports,
    ]
    chains = [c for t in texts for c in iptables("iptables-nft", t)]
    return Facts(
        interfaces={i.name: i for i in links},
        routes=(
            Path(dst=IPv4Network("198.51.100.0/24"), dev="lan0"),
            Path(dst=IPv4Network("172.18.0.0/16"), dev="br0"),
            Path(dst=IPv4Network("0.0.0.0/0"), dev="lan0", gateway=IPv4Address("198.51.100.254")),
        ),
        rules=RuleSet.of(chains),
        containers={c.name: c for c in (place("web", 2, WEB), place("mate", 3, MATE))},
        networks={NET: "one"},
        layouts=(Iptables.layout, Nftables.layout),
        ports=(Published(container="web", proto="tcp", container_port=80, host_ip="0.0.0.0",
                         host_port=8080),),
    )  # fmt: skip


LAN0 = Interface(name="lan0", addresses=(IPv4Interface("198.51.100.1/24"),), forwarding=True)
BR0 = Interface(
    name="br0", bridge=True, addresses=(IPv4Interface("172.18.0.1/16"),), forwarding=True,
    route_localnet=True,
)  # fmt: skip


def ask(facts: Facts, source: str, target: str, port: str = "80") -> Explanation:
    return explain(question(source, target, port), facts)


def test_the_very_rule_that_lets_a_published_port_in_is_named() -> None:
    e = ask(host(NAT, filters()), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.to, e.arrived_as) == (
        "delivered", "container web", "198.51.100.9 -> 172.18.0.2 tcp/80",
    )  # fmt: skip
    assert e.rule is not None
    assert (e.rule.table, e.rule.chain, e.rule.number, e.rule.text) == (
        "filter", "DOCKER", 1, OPEN,
    )  # fmt: skip
    assert e.rule.whose == "ours, for container web on network one"
    assert e.rule.purpose == "a published port or a link"
    assert [h.what for h in e.request if h.rule and h.rule.table == "nat"] == [
        "jump DOCKER", "dnat to 172.18.0.2:80",
    ]  # fmt: skip
    assert [h.what for h in e.answer][-1] == "answer: from 198.51.100.1 again"


def test_direct_routing_is_dropped_and_the_published_port_suggested() -> None:
    e = ask(host(NAT, filters()), FAR, "web")
    assert (e.verdict, e.reason, e.leg) == ("dropped", "rule", "request")
    assert e.rule is not None
    assert (e.rule.number, e.rule.text) == (2, CLOSED)
    assert e.notes == ("published as HOST:8080/tcp: there DELIVERED, to container web",)


def test_text_names_verdict_rule_and_way() -> None:
    assert text(ask(host(NAT, filters()), FAR, "web")).splitlines() == [
        f"{FAR} -> web  (198.51.100.9 -> 172.18.0.2 tcp/80)",
        "DROPPED: dropped by rule 2 of filter DOCKER (iptables-nft): "
        "what is not published is closed (ours, for network one)",
        f"    {CLOSED}",
        "note: published as HOST:8080/tcp: there DELIVERED, to container web",
        "the way:",
        "    forward      filter FORWARD 1             jump DOCKER-USER",
        "    forward      filter FORWARD 3             jump DOCKER",
        "    forward      filter DOCKER 2              drop",
    ]


def test_a_port_published_elsewhere_is_named_where_the_host_gets_the_packet() -> None:
    facts = host(NAT.replace("--dport 8080", "-d 127.0.0.1/32 --dport 8181"), filters())
    port = Published(container="web", proto="tcp", container_port=80, host_ip="127.0.0.1",
                     host_port=8181)  # fmt: skip
    e = ask(replace(facts, ports=(port,)), FAR, "198.51.100.1", "8181")
    assert (e.to, e.notes) == ("the host", ("port 8181 of web is published on 127.0.0.1 only",))


def test_a_container_in_the_hosts_namespace_is_the_host() -> None:
    facts = host(NAT, filters())
    boxes = dict(facts.containers)
    boxes["here"], boxes["nowhere"] = (
        Container(name="here", on_host=True),
        Container(name="nowhere"),
    )
    facts = replace(facts, containers=boxes)
    assert ask(facts, "here", "198.51.100.1", "8080").to == "container web"
    assert ask(facts, "web", "here", "7").packet == "172.18.0.2 -> 172.18.0.1 tcp/7"
    assert ask(facts, "nowhere", "web").reason == "no-route"
    with pytest.raises(NotFound, match="container nowhere has no IPv4 address"):
        ask(facts, "web", "nowhere")


def test_an_explanation_is_fit_for_json() -> None:
    e = ask(host(NAT, filters()), FAR, "web")
    assert msgspec.json.decode(msgspec.json.encode(e), type=Explanation) == e
    document = json.loads(msgspec.json.encode(e))
    assert (document["verdict"], document["rule"]["chain"], document["request"][-1]["what"]) == (
        "dropped", "DOCKER", "drop",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "verdict", "whose"),
    [
        ("-A DOCKER-USER -s 198.51.100.9/32 -j DROP", "dropped", "the administrator's"),
        ("-A DOCKER-USER -s 198.51.100.9/32 -j REJECT --reject-with icmp-port-unreachable",
         "rejected", "the administrator's"),
        ("-A DOCKER-USER -p udp -j DROP", "delivered", ""),
        ("-A DOCKER-USER -j RETURN\n-A DOCKER-USER -j DROP", "delivered", ""),
        ("-A DOCKER-USER -j EXTRA\n-A EXTRA -j DROP", "dropped", "foreign, not made by netkit"),
        ("-A DOCKER-USER -g EXTRA\n-A DOCKER-USER -j DROP", "delivered", ""),
        ("-A DOCKER-USER -m iprange --src-range 198.51.100.5-198.51.100.8 -j DROP",
         "delivered", ""),
        ("-A DOCKER-USER -p tcp -m multiport --dports 22,80:90 -j DROP", "dropped",
         "the administrator's"),
        ("-A DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 -j DROP", "dropped",
         "the administrator's"),
        ("-A DOCKER-USER -m conntrack --ctstate NEW --ctdir REPLY -j DROP", "delivered", ""),
        ("-A DOCKER-USER -i lan+ -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP", "dropped",
         "the administrator's"),
        ("-A DOCKER-USER -p tcp -m tcp --sport 1024:65535 -j DROP", "dropped",
         "the administrator's"),
        ("-A DOCKER-USER -m mark --mark 0x1/0x1 -j DROP", "delivered", ""),
        ("-A DOCKER-USER -j MARK --set-xmark 0x3/0xffffffff\n"
         "-A DOCKER-USER -m mark --mark 0x1/0x1 -j DROP", "dropped", "the administrator's"),
        ("-A DOCKER-USER -m limit --limit 5/sec -j LOG", "delivered", ""),
    ],
)  # fmt: skip
def test_rules_of_the_administrator_are_evaluated_as_the_kernel_does(
    rules: str, verdict: str, whose: str
) -> None:
    e = ask(host(NAT, filters(rules)), FAR, "198.51.100.1", "8080")
    assert e.verdict == verdict, text(e)
    assert whose in {"", e.rule.whose if e.rule else ""}


def test_words_in_quotes_are_read_as_iptables_save_writes_them() -> None:
    line = 'a -m comment --comment "say \\"hi\\" \\\\ there" --x "" b'
    assert split(line) == ["a", "-m", "comment", "--comment", 'say "hi" \\ there', "--x", "", "b"]


def test_a_policy_that_drops_is_named() -> None:
    rules = filters(policy="DROP").replace("-A FORWARD -i br0 -j ACCEPT", "")
    e = ask(host(NAT, rules), "web", "lan:198.51.100.9")
    assert (e.verdict, e.rule and (e.rule.number, e.rule.text)) == (
        "dropped", (0, "-P FORWARD DROP"),
    )  # fmt: skip


def test_what_cannot_be_evaluated_is_undetermined_with_the_rule_named() -> None:
    rule = "-A DOCKER-USER -m string --string x --algo bm -j DROP"
    e = ask(host(NAT, filters(rule)), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.rule and e.rule.text) == ("undetermined", rule)
    assert len(e.notes) == 3


def test_what_cannot_be_evaluated_but_changes_nothing_is_only_a_note() -> None:
    rule = "-A DOCKER-USER -m string --string x --algo bm -j DROP"
    e = ask(host(NAT, filters(rule)), FAR, "web", "81")
    assert e.verdict == "dropped"
    assert any("makes no difference" in n for n in e.notes)


def test_a_queue_or_an_unknown_set_is_never_guessed() -> None:
    for rule in (
        "-A DOCKER-USER -j NFQUEUE --queue-num 1",
        "-A DOCKER-USER -m set --match-set blocked src -j DROP",
        "-A DOCKER-USER -p tcp -m tcp --sport 40000 -j DROP",
    ):
        assert ask(host(NAT, filters(rule)), FAR, "198.51.100.1", "8080").verdict == "undetermined"


def test_members_of_a_known_set_are_looked_up() -> None:
    rule = filters("-A DOCKER-USER -m set --match-set blocked src -j DROP")
    for member, verdict in (("198.51.100.0/28", "dropped"), ("203.0.113.0/24", "delivered")):
        sets = {"blocked": (IPv4Network(member),)}
        chains = [*iptables("iptables-nft", NAT), *iptables("iptables-nft", rule, sets)]
        facts = replace(host(), rules=RuleSet.of(chains))
        assert ask(facts, FAR, "198.51.100.1", "8080").verdict == verdict


def test_a_shifted_range_of_ports_is_followed() -> None:
    shifted = NAT.replace(
        "--dport 8080", "--dport 8080:8089"
    ).replace("172.18.0.2:80", "172.18.0.2:80-89/8080")  # fmt: skip
    e = ask(host(shifted), FAR, "198.51.100.1", "8083")
    assert e.arrived_as == "198.51.100.9 -> 172.18.0.2 tcp/83"


def test_untracked_packets_are_not_translated() -> None:
    raw = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j CT --notrack\nCOMMIT\n"
    e = ask(host(raw, NAT, filters()), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.reason) == ("dropped", "not-translated")
    assert e.rule is not None
    assert e.rule.text == "-A PREROUTING -p tcp -j CT --notrack"


@pytest.mark.parametrize("does", ["ACCEPT", "RETURN", "REDIRECT"])
def test_a_rule_before_ours_that_keeps_a_published_port_from_its_container_is_named(
    does: str,
) -> None:
    first = "-A PREROUTING -p tcp -m tcp --dport 8080 -j"
    nat = NAT.replace("-A PREROUTING", f"{first} {does}\n-A PREROUTING", 1)
    e = ask(host(nat, filters()), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.reason) == ("dropped", "not-translated")
    assert e.rule is not None
    assert (e.rule.text, e.rule.place) == (
        f"{first} {does}",
        "rule 1 of nat PREROUTING (iptables-nft)",
    )


def test_a_rule_that_leads_a_published_port_elsewhere_is_in_the_notes() -> None:
    other = "-A PREROUTING -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.18.0.3:80"
    nat = NAT.replace("-A PREROUTING", f"{other}\n-A PREROUTING", 1)
    e = ask(host(nat, filters()), FAR, "198.51.100.1", "8080")
    (note,) = e.notes
    assert note.startswith("rule 1 of nat PREROUTING (iptables-nft) keeps port 8080/tcp from web")
    assert note.endswith(other)


def test_without_any_rule_for_a_published_port_none_is_blamed() -> None:
    e = ask(host(filters()), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.reason, e.rule) == ("dropped", "not-translated", None)


def test_an_answer_whose_addresses_are_not_put_back_does_not_count() -> None:
    raw = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --sport 80 -j CT --notrack\n"
    e = ask(host(f"{raw}COMMIT\n", NAT, filters()), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.leg, e.reason) == ("dropped", "answer", "not-translated")
    assert e.rule is not None
    assert "--sport 80" in e.rule.text


def test_a_redirection_to_the_same_port_settles_translation_in_chains_after_it() -> None:
    """nf_nat_initialized: also where the address stays as it is."""
    first = ":PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 8080 -j REDIRECT\n"
    chains = [
        *iptables("iptables-nft", NAT),
        *(replace(c, priority=-110) for c in iptables("iptables-legacy", f"*nat\n{first}COMMIT\n")),
        *iptables("iptables-nft", filters()),
    ]
    e = ask(replace(host(), rules=RuleSet.of(chains)), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.rule and e.rule.tool) == ("dropped", "iptables-legacy")


def test_a_dropped_answer_is_distinguished_from_a_dropped_request() -> None:
    rule = "-A DOCKER-USER -s 172.18.0.2/32 -j DROP"
    e = ask(host(NAT, filters(rule)), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.leg) == ("dropped", "answer")
    assert e.words.startswith("its answer was dropped by rule 1 of filter DOCKER-USER")


def test_loopback_is_no_address_on_a_wire() -> None:
    e = ask(host(NAT, filters()), FAR, "127.0.0.1", "8080")
    assert (e.verdict, e.reason) == ("dropped", "martian")


def test_the_host_reaches_its_loopback_port_by_route_localnet_only() -> None:
    facts = host(NAT, filters())
    assert ask(facts, "host", "127.0.0.1", "8080").reason == "martian"  # its source is 127.0.0.1
    answering = NAT.replace(
        "-A DOCKER", "-A POSTROUTING -o br0 -m addrtype --src-type LOCAL -j MASQUERADE\n-A DOCKER"
    )
    facts = host(answering, filters())
    assert ask(facts, "host", "127.0.0.1", "8080").to == "container web"
    shut = host(answering, filters(), br=replace(BR0, route_localnet=False))
    assert ask(shut, "host", "127.0.0.1", "8080").reason == "martian"


def test_impossible_sources_are_refused_with_the_reason() -> None:
    spoofed = "lan:172.18.0.3@lan0"
    strict = host(NAT, filters(), lan=replace(LAN0, rp_filter=1))
    assert ask(strict, spoofed, "198.51.100.1", "8080").reason == "rp-filter"
    own = Question(source="lan:198.51.100.1@lan0", target="198.51.100.1", port=8080)
    assert explain(own, strict).reason == "martian"


def test_without_forwarding_or_a_route_nothing_is_forwarded() -> None:
    off = host(NAT, filters(), lan=replace(LAN0, forwarding=False))
    e = ask(off, FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.reason) == ("not routed", "no-forwarding")
    lost = replace(host(), routes=())
    assert ask(lost, "host", "203.0.113.9").reason == "no-route"
    assert ask(host(), "host", "172.18.0.77").reason == "no-neighbour"


def isolated(facts: Facts, **bridge: bool) -> Facts:
    links = dict(facts.interfaces)
    for name in ("veth-web", "veth-mate"):
        links[name] = replace(links[name], isolated=True)
    links["br0"] = replace(BR0, **bridge)
    return replace(facts, interfaces=links)


def test_isolated_neighbours_meet_only_where_the_host_answers_for_them() -> None:
    facts = host(NAT, filters())
    assert ask(facts, "mate", "web").to == "container web"
    assert ask(isolated(facts), "mate", "web").reason == "isolated"
    by_host = ask(isolated(facts, proxy_arp_pvlan=True), "mate", "web")
    assert by_host.to == "container web"
    assert by_host.request  # now through FORWARD


BY_MAC = {
    "iptables": "-A DOCKER-USER -m mac ! --mac-source 02:42:ac:12:00:03 -j DROP",
    "nft": {"match": {
        "op": "!=", "right": "02:42:ac:12:00:03",
        "left": {"payload": {"protocol": "ether", "field": "saddr"}},
    }},
    "set": {"match": {
        "op": "!=", "right": {"set": [{"concat": ["172.18.0.3", "02:42:ac:12:00:03"]}]},
        "left": {"concat": [{"payload": {"protocol": "ip", "field": "saddr"}},
                            {"payload": {"protocol": "ether", "field": "saddr"}}]},
    }},
}  # fmt: skip


@pytest.mark.parametrize("how", BY_MAC)
def test_a_neighbour_may_be_known_by_its_mac_address(how: str) -> None:
    rule = BY_MAC[how]
    if isinstance(rule, str):
        facts = host(NAT, filters(rule))
    else:
        hook = {"type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}
        of = {"family": "ip", "table": "t"}
        chain = {**of, "name": "f", "handle": 1, **hook}
        drop = {**of, "chain": "f", "handle": 2, "expr": [rule, {"drop": None}]}
        facts = host(NAT, filters())
        chains = nft(json.dumps({"nftables": [{"chain": chain}, {"rule": drop}]}))
        facts = replace(facts, rules=RuleSet.of([*facts.rules.chains.values(), *chains]))
    facts = isolated(facts, proxy_arp_pvlan=True)
    question = Question(source="mate", target="web", port=80, one_way=True)
    assert explain(question, facts).to == "container web"
    borrowed = explain(replace(question, mac="02:42:ac:12:00:02"), facts)
    assert borrowed.verdict == "dropped"
    if how != "set":  # there the IP address is no neighbour's
        afar = Question(source=FAR, target="198.51.100.1", port=8080, one_way=True)
        assert explain(afar, facts).verdict == "undetermined"


def test_a_locked_port_lets_in_what_is_from_its_own_mac_address() -> None:
    lock = {"veth-mate": Guard(macs=frozenset({"02:42:ac:12:00:03"}))}
    facts = replace(host(NAT, filters()), guards=lock)
    for target in ("web", "host"):
        question = Question(source="mate", target=target, port=80, one_way=True)
        assert explain(question, facts).verdict == "delivered"
        posing = explain(replace(question, pose="172.18.0.2"), facts)
        assert posing.reason != "guarded"  # an IP address is none of its business
        borrowed = explain(replace(question, mac="02:42:ac:12:00:02"), facts)
        assert (borrowed.verdict, borrowed.reason) == ("dropped", "guarded")
        assert "does not take this from 02:42:ac:12:00:02" in borrowed.words


def test_bridged_frames_meet_rules_only_with_br_netfilter() -> None:
    rule = filters("-A DOCKER-USER -s 172.18.0.3/32 -d 172.18.0.2/32 -j DROP")
    facts = host(NAT, rule)
    assert ask(facts, "mate", "web").verdict == "delivered"
    facts = host(NAT, rule, br=replace(BR0, filtered=True))
    assert ask(facts, "mate", "web").verdict == "dropped"


def test_a_container_at_its_own_published_port_needs_its_answers_to_come_back() -> None:
    facts = host(NAT, filters())
    assert ask(facts, "web", "172.18.0.1", "8080").reason == "martian"
    same = "-A POSTROUTING -s 172.18.0.0/16 -d 172.18.0.0/16 -o br0 -j MASQUERADE\n-A DOCKER"
    facts = host(NAT.replace("-A DOCKER", same, 1), filters())
    assert ask(facts, "web", "172.18.0.1", "8080").to == "container web"
    facts = host(NAT.replace("-A DOCKER", same, 1), filters(), br=replace(BR0, filtered=True))
    assert ask(facts, "web", "172.18.0.1", "8080").reason == "no-hairpin"


def test_policy_routing_and_rules_on_frames_are_not_guessed_at() -> None:
    facts = host(NAT, filters())
    for other in (replace(facts, policy_routing=True), replace(facts, layer2="bridge x y")):
        assert ask(other, FAR, "198.51.100.1", "8080").verdict == "undetermined"
    assert ask(other, FAR, "198.51.100.1", "7").verdict == "delivered"  # no bridge is on this way


def test_the_world_is_an_address_no_rule_names() -> None:
    rules = filters("-A DOCKER-USER -s 192.0.2.1/32 -j DROP")
    e = ask(host(NAT, rules), "world", "198.51.100.1", "8080")
    assert (e.packet, e.verdict) == ("192.0.2.2 -> 198.51.100.1 tcp/8080", "delivered")


def test_by_which_interface_the_world_comes_is_given_or_refused() -> None:
    facts = host(NAT, filters())
    facts = replace(facts, routes=facts.routes[:2])  # no default route
    assert ask(facts, "world", "198.51.100.1", "8080").notes == (
        "this host has no route to the world: asked as if it came by lan0",
    )
    other = Interface(name="lan1", addresses=(IPv4Interface("10.9.0.1/24"),))
    two = replace(facts, interfaces={**facts.interfaces, "lan1": other})
    with pytest.raises(InvalidSpec, match="lan0, lan1: write lan:ADDRESS@INTERFACE"):
        ask(two, "world", "198.51.100.1", "8080")
    none = replace(facts, interfaces={k: v for k, v in facts.interfaces.items() if k != "lan0"})
    assert any("one called uplink" in n for n in ask(none, "world", "web", "80").notes)


@pytest.mark.parametrize("port", ["0", "70000", "http", "80/xyz", ""])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(InvalidSpec, match="invalid service" if port else "to which port"):
        question("host", "web", port)


def test_a_container_is_known_by_its_id_too() -> None:
    facts = host(NAT, filters())
    facts = replace(
        facts,
        containers={
            n: replace(c, id=f"{n.encode().hex():0<64}") for n, c in facts.containers.items()
        },
    )
    web = b"web".hex()
    assert (ask(facts, FAR, web).to, ask(facts, "mate", web).to) == ("", "container web")
    with pytest.raises(InvalidSpec):
        ask(facts, "mate", "")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(NotFound, match="nosuch"):
        ask(host(), "host", "nosuch")
    with pytest.raises(NotFound, match="web is not on network two"):
        ask(host(), "host", "web:two")


@pytest.mark.parametrize(
    ("source", "target"),
    [("box", "10.70.0.9"), ("box", "web"), ("mate", "box"), ("host", "10.70.0.2"), (FAR, "box")],
)
def test_what_goes_by_open_vswitch_is_left_to_net_trace(source: str, target: str) -> None:
    facts = host(NAT, filters())
    routes = (
        Path(dst=IPv4Network("10.70.0.0/24"), dev="eth0"),
        Path(dst=IPv4Network("0.0.0.0/0"), dev="eth0", gateway=IPv4Address("10.70.0.1")),
    )
    wide = {"eth0": Switched(id="e" * 64, network="wide", address=IPv4Address("10.70.0.2"))}
    box = Container(name="box", elsewhere=wide, routes=routes)
    facts = replace(facts, containers={**facts.containers, "box": box})
    with pytest.raises(NotSupported, match=r"box is on network wide of Open vSwitch.*net trace"):
        ask(facts, source, target)
    assert ask(facts, "mate", "web").verdict == "delivered"


def test_a_published_port_of_a_container_behind_open_vswitch_is_explained_up_to_there() -> None:
    endpoint = "e" * 12
    mark = f'-m comment --comment "netkit:0:{NET}:{endpoint} 0123456789abcdee 10"'
    let_in = f"-A DOCKER -d 10.70.0.2/32 ! -i obr0 -o obr0 -p tcp --dport 80 {mark} -j ACCEPT"
    facts = host(
        NAT.replace("172.18.0.2:80", "10.70.0.2:80"),
        filters(forward="-A FORWARD -o obr0 -j DOCKER").replace(OPEN, let_in),
    )
    obr0 = Interface(name="obr0", addresses=(IPv4Interface("10.70.0.1/24"),), forwarding=True)
    box = Container(name="box", elsewhere={
        "eth0": Switched(id=endpoint * 5, network="one", address=IPv4Address("10.70.0.2")),
    })  # fmt: skip
    facts = replace(
        facts,
        interfaces={**facts.interfaces, "obr0": obr0},
        routes=(*facts.routes, Path(dst=IPv4Network("10.70.0.0/24"), dev="obr0")),
        containers={"box": box},
    )
    e = ask(facts, FAR, "198.51.100.1", "8080")
    assert e.verdict == "delivered"
    assert e.to == "container box by obr0 of Open vSwitch (its flows: net trace)"
    assert "ours, for container box on network one" in text(e)
    twin = replace(box, name="twin")  # another tenant's, of the same address
    facts = replace(facts, containers={"box": box, "twin": twin})
    assert ask(facts, FAR, "198.51.100.1", "8080").to == "the outside by obr0"


def ruleset(*things: dict[str, object]) -> str:
    return json.dumps({"nftables": [{"metainfo": {"json_schema_version": 1}}, *things]})


def base(table: str, name: str, hook: str, prio: int, kind: str = "filter") -> dict[str, object]:
    return {"chain": {"family": "ip", "table": table, "name": name, "handle": 1, "type": kind,
                      "hook": hook, "prio": prio, "policy": "accept"}}  # fmt: skip


def nft_rule(table: str, chain: str, *expr: object, handle: int = 9) -> dict[str, object]:
    return {"rule": {"family": "ip", "table": table, "chain": chain, "handle": handle,
                     "expr": list(expr)}}  # fmt: skip


def payload(protocol: str, name: str) -> dict[str, object]:
    return {"payload": {"protocol": protocol, "field": name}}


PORTS = {"map": {"family": "ip", "name": "ports", "table": "t",
                 "type": ["inet_proto", "inet_service"], "map": ["ipv4_addr", "inet_service"],
                 "elem": [[
                     {"elem": {"val": {"concat": ["tcp", 8080]},
                               "comment": f"netkit:0:{NET}:{WEB} x"}},
                     {"concat": ["172.18.0.2", 80]}]]}}  # fmt: skip
DNAT = nft_rule("t", "pre", {"dnat": {"addr": {"map": {
    "key": {"concat": [{"meta": {"key": "l4proto"}}, payload("th", "dport")]},
    "data": "@ports"}}}}, handle=7)  # fmt: skip
INTO = {"map": {"family": "ip", "name": "into", "table": "t", "type": "ifname", "map": "verdict",
                "elem": [["br0", {"goto": {"target": "closed"}}]]}}  # fmt: skip
NATIVE = (
    base("t", "pre", "prerouting", -100, "nat"), base("t", "fwd", "forward", 0),
    {"chain": {"family": "ip", "table": "t", "name": "closed", "handle": 3}},
    PORTS, INTO, DNAT,
    nft_rule("t", "fwd", {"match": {"op": "in", "left": {"ct": {"key": "state"}},
                                    "right": ["established", "related"]}}, {"accept": None}),
    nft_rule("t", "fwd", {"vmap": {"key": {"meta": {"key": "oifname"}}, "data": "@into"}}),
    nft_rule("t", "closed", {"match": {"op": "in", "left": {"ct": {"key": "status"}},
                                       "right": "dnat"}}, {"accept": None}),
    nft_rule("t", "closed", {"counter": {"packets": 0, "bytes": 0}}, {"drop": None}, handle=12),
)  # fmt: skip
PLAIN = (
    "table ip t { # handle 1\n\tchain closed { # handle 3\n\t\tcounter drop # handle 12\n\t}\n}\n"
)


def native(*more: dict[str, object]) -> Facts:
    return replace(host(), rules=RuleSet.of(nft(ruleset(*NATIVE, *more), PLAIN)))


def test_maps_and_verdict_maps_of_nftables_are_looked_up() -> None:
    e = ask(native(), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.to) == ("delivered", "container web")
    hop = next(h for h in e.request if h.what.startswith("dnat"))
    assert hop.rule is not None
    assert "@ports { tcp . 8080 : 172.18.0.2 . 80 }" in hop.rule.text
    assert hop.rule.whose == "ours, for container web on network one"
    e = ask(native(), FAR, "web")
    assert (e.verdict, e.rule and e.rule.text) == ("dropped", "counter drop")


def test_an_accept_in_one_table_does_not_overrule_a_drop_in_another() -> None:
    late = (base("late", "f", "forward", 10),
            nft_rule("late", "f", {"match": {"op": "==", "left": payload("ip", "saddr"),
             "right": {"prefix": {"addr": "198.51.100.0", "len": 28}}}}, {"drop": None})
    )  # fmt: skip
    e = ask(native(*late), FAR, "198.51.100.1", "8080")
    assert (e.verdict, e.rule and e.rule.table) == ("dropped", "ip late")


def test_expressions_of_nftables_that_are_not_known_are_not_guessed() -> None:
    numgen = {"match": {"op": "==", "left": {"numgen": {"mode": "inc", "mod": 2}}, "right": 0}}
    odd = (base("odd", "f", "forward", -5), nft_rule("odd", "f", numgen, {"drop": None}))
    assert ask(native(*odd), FAR, "198.51.100.1", "8080").verdict == "undetermined"
    six = {"match": {"op": "==", "left": payload("ip6", "saddr"), "right": "::1"}}
    odd = (base("odd", "f", "forward", -5), nft_rule("odd", "f", six, {"drop": None}))
    assert ask(native(*odd), FAR, "198.51.100.1", "8080").verdict == "delivered"


def test_chains_on_frames_are_found_where_they_have_rules() -> None:
    rule = {"rule": {"family": "bridge", "table": "x", "chain": "y", "handle": 1, "expr": []}}
    assert layer2(ruleset(rule)) == ["bridge x y"]
    assert nft(ruleset(rule)) == []
