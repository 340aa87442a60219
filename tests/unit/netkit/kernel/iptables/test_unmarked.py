"""Which rules without an owner mark are strays, and which are the administrator's."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import cast

import pytest

from netkit.errors import KernelError
from netkit.kernel.iptables.chains import JUMP, Entry
from netkit.kernel.iptables.tools import Tools
from netkit.kernel.iptables.unmarked import Judge, Line, plain
from netkit.kernel.iptables.unmarked_rules import StrayRules
from netkit.kernel.session import Session
from netkit.model import Stray
from netkit.reconcile.plan import Op
from plugins.firewall.iptables.layout import CHAINS, JUMPS
from plugins.firewall.iptables.territory import LAYOUT

REMOVED = "br-0123456789ab"
LIVE = "-d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 "
LET_IN = f"{LIVE}-m conntrack --ctstate DNAT -j ACCEPT"
TRANSLATE = "-p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80"


def line(text: str, *, ours: bool = False) -> Line:
    """`TABLE CHAIN RULE`, as iptables-save prints it."""
    table, chain, spec = text.split(" ", 2)
    jump = JUMP.search(spec)
    owner = "netkit:e1:global" if ours else None
    return Line(table, chain, Entry(owner=owner, target=jump and jump[1], spec=spec), plain(spec))


def strays(*foreign: str, ours: tuple[str, ...] = ()) -> list[str]:
    judge = Judge(LAYOUT.territory, links={"lo", "eth0", "docker0", "other0"}, bridges={"docker0"})
    lines = [*(line(t, ours=True) for t in ours), *map(line, foreign)]
    return [f"{k.table} {k.chain} {k.entry.spec}" for k in judge.strays(lines)]


def test_every_chain_of_the_layout_is_ours_alone_open_or_the_administrators() -> None:
    chains = {*CHAINS, *((table, chain) for table, chain, *_ in JUMPS)}
    assert {c for c in chains if not LAYOUT.territory.covers(*c)} == {("filter", "DOCKER-USER")}


@pytest.mark.parametrize(
    "text",
    [
        "filter DOCKER-FORWARD -s 192.0.2.1/32 -j DROP",
        "filter DOCKER-FORWARD -i eth0 -o docker0 -j ACCEPT",
        "filter DOCKER-CT -j ACCEPT",
        "nat DOCKER-LOCAL -d 127.0.0.1/32 -j DNAT --to-destination 172.17.0.2:80",
        "nat DOCKER-0123abcd-tcp -p tcp -m tcp --dport 80 -j RETURN",
        f"filter DOCKER-CT -o {REMOVED} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        # in chains that other tools use too
        f"filter DOCKER {LET_IN}",  # as only we write it
        "nat DOCKER -p tcp -m tcp --dport 9000:9300 -j DOCKER-0123abcd-tcp",
        f"nat POSTROUTING -s 172.30.0.0/16 ! -o {REMOVED} -j MASQUERADE",
        f"nat POSTROUTING -s 172.30.0.0/16 -d 172.30.0.0/16 -o {REMOVED} -m conntrack "
        "--ctstate DNAT -j MASQUERADE",
        f"nat POSTROUTING -o {REMOVED} -m addrtype --src-type LOCAL -j MASQUERADE",
        f'nat POSTROUTING oifname != "{REMOVED}" ip saddr 172.30.0.0/16 snat to 192.0.2.1',
        f"raw PREROUTING -d 127.0.0.0/8 -i {REMOVED} -j DROP",
        f'raw PREROUTING iifname "{REMOVED}" ip saddr 127.0.0.0/8 drop',
    ],
)
def test_strays(text: str) -> None:
    assert strays(text) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "filter DOCKER -s 192.0.2.1/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j DROP",
        f"filter DOCKER {LIVE}-j ACCEPT",  # as Docker writes it, and people do
        f"nat DOCKER {TRANSLATE}",
        "nat POSTROUTING -s 172.17.0.0/16 -o eth0 -j MASQUERADE",
        "filter FORWARD -j ACCEPT",
        "filter DOCKER-USER -j RETURN",
        "filter INPUT -i docker0 -j ACCEPT",
        # typed by hand about a bridge that was removed
        f"filter FORWARD -i {REMOVED} -j ACCEPT",
        f"filter FORWARD -s 192.0.2.1/32 -o {REMOVED} -j DROP",
        f"filter FORWARD {LET_IN}",
        f"nat POSTROUTING -s 172.30.0.0/16 -o {REMOVED} -j MASQUERADE",
        f"nat PREROUTING -i {REMOVED} -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 81",
        f"raw PREROUTING -i {REMOVED} -p udp -j CT --notrack",
        "nat PREROUTING -p tcp -m tcp --dport 80 -j DOCKER-0123abcd-tcp",
        # of another engine, which has chains of the same names
        "filter DOCKER-CT -o other0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "filter DOCKER ! -i other0 -o other0 -j DROP",
    ],
)
def test_foreign_rules(text: str) -> None:
    assert strays(text) == []


def test_a_copy_of_a_rule_of_ours_is_one_whatever_its_comment_was() -> None:
    """In its chain; the same rule in another is another tool's."""
    ours = (f"nat DOCKER {TRANSLATE}", "filter FORWARD -j DOCKER-FORWARD")
    assert strays(*ours, ours=ours) == [*ours]
    commented = f'nat DOCKER -m comment --comment "web" {TRANSLATE}'
    assert strays(commented, f"nat MINE {TRANSLATE}", ours=ours) == [commented]


def test_a_translation_goes_with_the_admission_that_it_was_made_with() -> None:
    two = (f"filter DOCKER {LET_IN}", f"nat DOCKER {TRANSLATE}")
    assert strays(*two) == [*two]
    elsewhere = f"nat DOCKER {TRANSLATE.replace('0.2:', '0.3:')}"
    assert strays(two[0], elsewhere) == [two[0]]
    another = f"nat DOCKER {TRANSLATE[:-2]}81"
    by_hand = (f"nat {chain} {TRANSLATE}" for chain in ("PREROUTING", "OUTPUT"))
    assert strays(two[0], another, *by_hand) == [two[0]]
    spans = (
        f"filter DOCKER {LET_IN.replace('--dport 80', '--dport 80:90')}",
        "nat DOCKER -p tcp -m tcp --dport 80:90 -j DNAT --to-destination 172.17.0.2",
        f"nat DOCKER {TRANSLATE}",
    )
    assert strays(*spans) == [*spans]
    assert strays(spans[0], spans[1].replace("80:90", "80:91")) == [spans[0]]
    # the port is published now, too: the rest may be the administrator's
    assert strays(*two, ours=(two[0],)) == [two[0]]


def test_jumps_stay_where_another_engine_shares_the_chains() -> None:
    jump = "filter FORWARD -j DOCKER-FORWARD"
    theirs = "filter DOCKER-CT -o other0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    typed = "filter DOCKER-CT -s 192.0.2.1/32 -j ACCEPT"
    assert strays(jump, theirs, typed, ours=(jump,)) == [typed]


def test_what_nft_prints_of_a_rule_is_compared_without_its_counters() -> None:
    one = plain("tcp dport 80  counter packets 1 bytes 40 dnat to 172.17.0.2:80 # handle 7")
    assert one == plain('tcp dport 80 comment "netkit:e1:x 01" counter dnat to 172.17.0.2:80')


def test_a_rule_is_the_same_whichever_version_of_iptables_wrote_it() -> None:
    for older, newer in (
        ('iifname "br0" ip saddr 127.0.0.0/8 drop', 'ip saddr 127.0.0.0/8 iifname "br0" drop'),
        (
            'iifname != "br0" oifname "br0" ip daddr 10.0.0.2 tcp dport 80 ct status dnat accept',
            'ip daddr 10.0.0.2 iifname != "br0" oifname "br0" tcp dport 80 ct status dnat accept',
        ),
        (
            'oifname != "br*" meta l4proto icmp ip saddr != 10.0.0.0/8 ip daddr 10.1.0.0/16 drop',
            'ip saddr != 10.0.0.0/8 ip daddr 10.1.0.0/16 oifname != "br*" ip protocol icmp drop',
        ),
        ('oifname "a b" drop', 'oifname "a b" drop'),
        ("", ""),
    ):
        assert plain(older) == older
        assert plain(newer) == older
    for text in (
        'ip saddr { 10.0.0.1, 10.0.0.2 } iifname "br0" drop',
        'tcp dport 80 ip saddr 10.0.0.1 iifname "br0" drop',
        "-s 127.0.0.0/8 -i br0 -j DROP",
    ):
        assert plain(text) == text


def test_rules_that_change_at_each_try_are_not_reported_as_removed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(*_: object) -> None:
        raise KernelError("changed meanwhile", errno=errno.EAGAIN)

    stray = Stray(table="filter", chain="DOCKER", number="7", text="-j DROP", owner="x")
    tools = cast(Tools, SimpleNamespace(variant="legacy", restore=changed))
    rules = StrayRules("", LAYOUT.territory)
    monkeypatch.setattr(rules, "observe", lambda *_: {stray.key: stray})
    with pytest.raises(KernelError, match="changed meanwhile"):
        rules.remove(cast(Session, None), tools, lambda _: {}, [Op(stray, None)])
    assert "removed a" not in caplog.text
