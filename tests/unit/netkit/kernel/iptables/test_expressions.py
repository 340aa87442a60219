"""Which rules are written without iptables' tool; that they are the same: tests/netns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netkit.kernel.iptables import by_netlink
from netkit.kernel.iptables.agreement import SAMPLES
from netkit.kernel.iptables.expressions import encode
from netkit.model import Chain, Rule
from netkit.reconcile.plan import Op
from tests.unit.plugins.firewall.firewall_matrix import BACKENDS, expected

OWNER = "netkit:0:aaaaaaaaaaaa"
BY_THE_TOOL = {"mac", "--ctorigdstport", "SNAT"}  # words of rules that are rare


def test_all_common_rules_of_networks_and_ports_are_known() -> None:
    lines = {line.text for _, line in expected(BACKENDS[0]) if line.text.count("-j ")}
    left = [text for text in lines if encode(text.split(), "c") is None]
    assert [text for text in left if BY_THE_TOOL.isdisjoint(text.split())] == []
    assert len(left) < len(lines) / 3


def test_every_sample_is_known() -> None:
    assert all(encode(s.split(), "c") for each in SAMPLES.values() for s in each)


@pytest.mark.parametrize(
    "args",
    [
        "",
        "-i br0",  # no target
        "-i br0 -i br1 -j DROP",
        "-i abcdefghijklmnop -j DROP",
        "-i + -j DROP",
        "-i -j DROP",
        "-s 0.0.0.0/0 -j DROP",
        "-s 10.0.0.1/24 -j DROP",  # iptables clears the bits of the host
        "-s 10.0.0.1,10.0.0.2 -j DROP",
        "-s example.org -j DROP",
        "-s fd00::/8 -j DROP",
        "-s 10.0.0.0/0.0.0.255 -j DROP",
        "-s 10.0.0.0/255.0.0.0 -j DROP",
        "-s 10.0.0.0/33 -j DROP",
        "-p tcp -m tcp --dport 080 -j DROP",
        "-p all -j DROP",
        "! -p tcp -j DROP",
        "-p sctp -m sctp --dport 80 -j DROP",
        "-m tcp --dport 80 -j DROP",
        "-p udp -m tcp --dport 80 -j DROP",
        "-p tcp -m tcp --dport 0 -j DROP",
        "-p tcp -m tcp --dport 80:80 -j DROP",
        "-p tcp -m tcp --dport 65536 -j DROP",
        "-p tcp -m tcp --dport http -j DROP",
        "-p tcp -m tcp --dport \u0663 -j DROP",
        "-p tcp -m tcp ! --dport 80 -j DROP",
        "-p tcp -m tcp --dport 80 --syn -j DROP",
        "-m conntrack --ctstate INVALID -j DROP",
        "-m conntrack ! --ctstate DNAT -j DROP",
        "-m addrtype --src-type MULTICAST -j DROP",
        "-m mac --mac-source 02:00:00:00:00:01 -j DROP",
        "-j",
        "-j LOG --log-level 4",
        "-j DROP -j DROP",
        "! -j DROP",
        "-j MASQUERADE --random",
        "-j DNAT",
        "-j DNAT --to-destination 10.0.0.1-10.0.0.9",
        "-j DNAT --to-destination 10.0.0.1:80-89",
        "-j DNAT --to-destination 10.0.0.1:",
        "-g DOCKER",
        "!",
    ],
)
def test_what_is_not_known_is_left_to_the_tool(args: str) -> None:
    assert encode(args.split(" "), "c") is None


def test_a_comment_stands_beside_the_rule_unless_nft_could_not_load_it() -> None:
    for size, beside in ((1, True), (128, True), (129, False), (255, False)):
        written = encode(["-j", "DROP"], "c" * size)
        assert written is not None
        raw = b"c" * size + b"\0"
        assert written.user_data == (bytes([0, size + 1]) + raw if beside else b"")
        assert (raw in written.data) != beside


def test_a_comment_that_does_not_fit_is_left_to_the_tool() -> None:
    assert encode(["-j", "DROP"], "c" * 255)
    assert encode(["-j", "DROP"], "c" * 256) is None


def test_additions_are_of_rules_alone_of_ipv4_and_not_many() -> None:
    def rule(n: int, family: int = 4, args: tuple[str, ...] = ("-j", "DROP")) -> Rule:
        return Rule(
            table="filter", chain="DOCKER", args=args, rank=n, owner=OWNER, family=family
        )

    some = [Op(None, rule(n)) for n in range(by_netlink.MOST)]
    assert by_netlink.addition(some)
    assert by_netlink.addition([*some, Op(None, rule(-1))]) is None
    for other in (
        Op(None, Chain(table="filter", name="DOCKER", owner=OWNER)),
        Op(None, rule(1, family=6)),
        Op(None, rule(1, args=("-m", "limit", "-j", "DROP"))),
        Op(rule(1), rule(1)),
        Op(rule(1), None),
    ):
        assert by_netlink.addition([some[0], other]) is None


def _written(table: str, args: str, *, family: int = 4, label: str = "") -> list[Op]:
    words = tuple(args.split())
    made = Rule(
        table=table, chain="DOCKER", args=words, owner=OWNER, family=family, label=label
    )
    return [Op(None, made)]


def test_what_the_tool_wrote_is_written_again_where_each_packet_passes() -> None:
    for ops in (
        _written("filter", "-j DOCKER-USER"),
        _written("filter", "-o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        _written("raw", "-i br0 -s 127.0.0.0/8 -j DROP"),
        [replace(op, before=op.after) for op in _written("filter", "-j DROP")],  # it is moved
    ):
        assert by_netlink.rewriting(ops)
    for ops in (
        [],
        _written("nat", "-o br0 -j MASQUERADE"),
        _written("filter", "-p tcp -m tcp --dport 80 -j ACCEPT"),
        _written("filter", "-j DROP", family=6),
        _written("filter", "-j DROP", label="x" * 99),
        [op.inverse() for op in _written("filter", "-j DROP")],
        [Op(None, Chain(table="filter", name="DOCKER", owner=OWNER))],
        _written("filter", "-j DROP") * (by_netlink.MOST_REWRITTEN + 1),
    ):
        assert by_netlink.rewriting(ops) is None
