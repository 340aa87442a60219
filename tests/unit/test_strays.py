"""Which rules without a mark have no place where they stand, and which are the administrator's."""

from __future__ import annotations

import pytest

from netkit.kernel.chains import JUMP, Entry
from netkit.kernel.strays import Judge, Line, plain
from plugins.firewall.layout import CHAINS, JUMPS
from runtime.firewalling import TERRITORY

GONE = "br-0123456789ab"
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
    judge = Judge(TERRITORY, links={"lo", "eth0", "docker0", "other0"}, bridges={"docker0"})
    lines = [*(line(t, ours=True) for t in ours), *map(line, foreign)]
    return [f"{k.table} {k.chain} {k.entry.spec}" for k in judge.strays(lines)]


def test_every_chain_of_the_layout_is_ours_alone_open_or_the_administrators() -> None:
    chains = {*CHAINS, *((table, chain) for table, chain, *_ in JUMPS)}
    assert {c for c in chains if not TERRITORY.covers(*c)} == {("filter", "DOCKER-USER")}


@pytest.mark.parametrize(
    "text",
    [
        "filter DOCKER-FORWARD -s 192.0.2.1/32 -j DROP",
        "filter DOCKER-FORWARD -i eth0 -o docker0 -j ACCEPT",
        "filter DOCKER-CT -j ACCEPT",
        "nat DOCKER-LOCAL -d 127.0.0.1/32 -j DNAT --to-destination 172.17.0.2:80",
        "nat DOCKER-0123abcd-tcp -p tcp -m tcp --dport 80 -j RETURN",
        f"filter DOCKER-CT -o {GONE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        # in chains that are open to others
        f"filter DOCKER {LET_IN}",  # as only we write it
        "nat DOCKER -p tcp -m tcp --dport 9000:9300 -j DOCKER-0123abcd-tcp",
        f"nat POSTROUTING -s 172.30.0.0/16 ! -o {GONE} -j MASQUERADE",
        f"raw PREROUTING -d 127.0.0.0/8 -i {GONE} -j DROP",
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
        # of another engine, which has chains of the same names
        "filter DOCKER-CT -o other0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "filter DOCKER ! -i other0 -o other0 -j DROP",
    ],
)
def test_rules_of_others(text: str) -> None:
    assert strays(text) == []


def test_a_copy_of_a_rule_of_ours_is_one_whatever_its_comment_said() -> None:
    """In its chain; the same rule in another is somebody else's."""
    ours = (f"nat DOCKER {TRANSLATE}", "filter FORWARD -j DOCKER-FORWARD")
    assert strays(*ours, ours=ours) == [*ours]
    commented = f'nat DOCKER -m comment --comment "web" {TRANSLATE}'
    assert strays(commented, f"nat MINE {TRANSLATE}", ours=ours) == [commented]


def test_a_translation_goes_with_the_admission_that_it_was_made_with() -> None:
    two = (f"filter DOCKER {LET_IN}", f"nat DOCKER {TRANSLATE}")
    assert strays(*two) == [*two]
    elsewhere = f"nat DOCKER {TRANSLATE.replace('0.2:', '0.3:')}"
    assert strays(two[0], elsewhere) == [two[0]]
    # the port is published now, too: the rest may be the administrator's
    assert strays(*two, ours=(two[0],)) == [two[0]]


def test_jumps_stay_where_another_engine_shares_the_chains() -> None:
    jump = "filter FORWARD -j DOCKER-FORWARD"
    theirs = "filter DOCKER-CT -o other0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    typed = "filter DOCKER-CT -s 192.0.2.1/32 -j ACCEPT"
    assert strays(jump, theirs, typed, ours=(jump,)) == [typed]


def test_what_nft_prints_of_a_rule_is_compared_without_its_counters() -> None:
    one = plain('tcp dport 80  counter packets 1 bytes 40 dnat to 172.17.0.2:80 # handle 7')
    assert one == plain('tcp dport 80 comment "netkit:e1:x 01" counter dnat to 172.17.0.2:80')
