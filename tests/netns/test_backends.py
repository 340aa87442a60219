"""Which firewall back end is chosen, its features, and removal of what another back end left."""

from __future__ import annotations

import subprocess
from ipaddress import ip_network

import pytest

from netkit.driver import Network, Subnet, TrafficPolicy
from netkit.errors import InvalidSpec, KernelError
from netkit.kernel import netns
from netkit.kernel.firewall import detect_backend, other_backends, probe_features
from netkit.kernel.firewall.detect_backend import choose
from netkit.kernel.iptables import tools
from netkit.kernel.netlink import rtnl
from netkit.model import Rule, Sysctl
from netkit.reconcile.plan import Op
from plugins.firewall.iptables import Iptables
from tests.netns.conftest import rule

pytestmark = pytest.mark.root

PREFIX = "netkit:0:"
NATIVE = 'table ip netkit {{ comment "{}"; map m {{ type ipv4_addr : verdict; }}; chain c {{ }}; }}'
ADMIN = """*filter
:DOCKER-USER - [0:0]
:MINE - [0:0]
-A FORWARD -s 10.9.0.0/16 -j MINE
-A DOCKER-USER -s 10.8.0.0/16 -m comment --comment "not netkit:0:ours" -j DROP
-A MINE -p tcp -m tcp --dport 7 -j RETURN
COMMIT
"""


def _rules():
    """Return resources of a network of ours, without those that need its link."""
    firewall = Iptables()
    net = Network(
        id="a" * 64, name="n", driver="bridge", engine="0",
        subnets=(Subnet(cidr=ip_network("10.77.0.0/16")),),
    )  # fmt: skip
    policy = TrafficPolicy(link="br0")
    made = [*firewall.setup(f"{PREFIX}global"), *firewall.network(net, policy)]
    return [r for r in made if not isinstance(r, Sysctl)]


def _saved(lab, variant):
    """Return chains and rules of existing tables that are not empty."""
    out = lab.run(f"iptables-{variant}-save")
    return [x for x in out.splitlines() if x.startswith("-A") or x.endswith("- [0:0]")]


def _remove(lab, chosen):
    found = other_backends.find(lab.home, chosen, PREFIX, ("DOCKER",))
    other_backends.remove(lab.home, found)
    return found


# -- choosing ------------------------------------------------------------------


def test_a_host_without_rules_gets_what_its_iptables_is(lab):
    output = lab.run("iptables", "-V")
    for requested in ("auto", "iptables"):
        chosen = choose(lab.home, requested)
        assert chosen.backend == ("iptables-legacy" if "legacy" in output else "iptables-nft")
        assert "no rules yet" in chosen.reason


def test_the_side_with_rules_is_taken_and_of_both_the_one_with_dockers(lab):
    lab.run("iptables-legacy", "-A", "FORWARD", "-j", "DROP")
    assert choose(lab.home).backend == "iptables-legacy"
    assert choose(lab.home).variant == "legacy"
    lab.run("iptables-nft", "-t", "nat", "-A", "OUTPUT", "-j", "ACCEPT")
    assert choose(lab.home).backend == "iptables-nft"
    assert "both variants hold rules" in choose(lab.home).reason
    lab.run("iptables-legacy", "-N", "KUBE-FORWARD")
    assert choose(lab.home).backend == "iptables-legacy"
    lab.run("iptables-nft", "-N", "DOCKER-USER")
    assert choose(lab.home).backend == "iptables-nft"


@pytest.mark.parametrize("backend", ["iptables-legacy", "iptables-nft", "nftables"])
def test_a_requested_back_end_is_used_whatever_there_is(lab, backend):
    lab.run("iptables-legacy", "-N", "DOCKER")
    lab.run("nft", NATIVE.format("netkit:0:global"))
    chosen = choose(lab.home, backend)
    assert (chosen.backend, chosen.reason) == (backend, "by --firewall-backend")


def test_our_own_table_makes_auto_stay_with_nftables_but_not_iptables(lab):
    lab.run("iptables-legacy", "-A", "FORWARD", "-j", "DROP")
    lab.run("nft", NATIVE.format("netkit:0:global"))
    assert choose(lab.home).backend == "nftables"
    assert "netkit:0:global" in choose(lab.home).reason
    assert choose(lab.home, "iptables").backend == "iptables-legacy"


def test_a_table_of_that_name_without_our_comment_is_not_ours(lab):
    lab.run("nft", "table ip netkit { chain c { }; }")
    lab.run("nft", 'table ip6 netkit { comment "netkit:0:global"; }')
    assert choose(lab.home).backend != "nftables"


def test_an_unknown_back_end_is_refused_with_those_known(lab):
    with pytest.raises(InvalidSpec, match="ipfw: use auto, iptables, iptables-legacy"):
        choose(lab.home, "ipfw")


def test_what_is_not_installed_is_not_taken(lab, monkeypatch):
    real = tools.installed
    missing = {"iptables-nft-restore"}
    monkeypatch.setattr(tools, "installed", lambda p: p not in missing and real(p))
    assert choose(lab.home).backend == "iptables-legacy"
    assert "iptables-nft is not installed" in choose(lab.home).reason
    with pytest.raises(KernelError, match="install the package iptables"):
        choose(lab.home, "iptables-nft")
    missing |= {"iptables-legacy-restore"}
    assert choose(lab.home).backend == "nftables"
    with pytest.raises(KernelError, match="install the package iptables"):
        choose(lab.home, "iptables")
    missing |= {"nft"}
    with pytest.raises(KernelError, match="install"):
        choose(lab.home)


def test_choosing_makes_no_legacy_tables(lab):
    for requested in ("auto", "iptables"):
        choose(lab.home, requested)
    assert lab.run("cat", "/proc/net/ip_tables_names") == ""


# -- features ------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["iptables-legacy", "iptables-nft", "nftables"])
def test_this_machine_has_all_there_is_to_have(backend):
    found = probe_features.probe(backend)
    assert (found.missing, [f.name for f, _ in found.lost if f.name != "br_netfilter"]) == ((), [])
    assert found.version[0].isdigit()
    found.check()


@pytest.mark.parametrize("backend", ["iptables-legacy", "iptables-nft", "nftables"])
def test_probing_leaves_no_trace(lab, backend):
    with netns.inside(lab.home):
        before = lab.run("nft", "list", "ruleset"), lab.run("cat", "/proc/net/ip_tables_names")
        probe_features.probe(backend)
        after = lab.run("nft", "list", "ruleset"), lab.run("cat", "/proc/net/ip_tables_names")
    assert before == after


def _without(monkeypatch, *words):
    """Make the host's tools refuse input with these words."""
    real = tools.run

    def run(home, argv, text=None):
        if text and any(w in text for w in words):
            return subprocess.CompletedProcess(argv, 1, "", "No chain/target/match by that name.")
        return real(home, argv, text)

    monkeypatch.setattr(tools, "run", run)


def test_missing_optional_features_are_reported_with_their_effect(monkeypatch):
    _without(monkeypatch, "multiport", "--match-set", "--mac-source")
    found = probe_features.probe("iptables-nft")
    assert found.missing == ()
    lost = [f.name for f, _ in found.lost if f.name != "br_netfilter"]
    assert lost == ["multiport", "mac", "set"]
    assert found.works("addrtype")
    assert not found.works("set")
    found.check()
    shown = probe_features.info(choose("", "iptables-nft"), found, "iptables-nft-restore")
    assert shown["Driver"] == "iptables-nft"
    details = dict(shown["Info"])
    assert details["Chosen"] == "by --firewall-backend"
    assert details["Committed by"] == "iptables-nft-restore"
    assert "a rule for each address (No chain/target/match" in details["Without set"]


def test_what_no_network_can_do_without_is_an_error_that_names_all_of_it(monkeypatch):
    _without(monkeypatch, "addrtype", "*raw")
    found = probe_features.probe("iptables-legacy")
    assert [f.name for f in found.missing] == ["addrtype", "raw table"]
    with pytest.raises(KernelError, match=r"iptables-legacy .* lacks addrtype \(No chain.*raw"):
        found.check()


def test_a_kernel_without_locked_ports_is_found_out(monkeypatch):
    """The kernel ignores the attribute, as it does any number that it does not know."""
    monkeypatch.setitem(rtnl.BRPORT, "locked", 250)
    found = probe_features.probe("nftables")
    assert found.missing == ()
    shown = dict(probe_features.info(choose("", "nftables"), found)["Info"])
    assert shown["Without locked ports"].endswith("(Linux before 5.18)")


def test_a_kernel_without_sets_does_without(monkeypatch):
    def none(*_):
        raise KernelError("cannot make set nks-probe: Invalid argument", errno=22)

    monkeypatch.setattr("netkit.kernel.iptables.ipset.apply", none)
    found = probe_features.probe("iptables-nft")
    assert found.missing == ()
    assert not found.works("set")
    assert found.works("multiport")


# -- leftovers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "chosen"),
    [
        ("nft", "iptables-legacy"),
        ("nft", "nftables"),
        ("legacy", "iptables-nft"),
        ("legacy", "nftables"),
        ("nft", None),
        ("legacy", None),
    ],
)
def test_what_we_left_in_the_other_iptables_goes_and_the_rest_stays(lab, left, chosen):
    lab.run(f"iptables-{left}-restore", text=ADMIN)
    before = _saved(lab, left)
    lab.make(lab.host(left), *_rules())
    lab.run(f"iptables-{left}", "-I", "DOCKER", "-s", "10.7.0.1", "-p", "TCP", "--dport", "80",
            "-j", "DROP")  # fmt: skip
    (found,) = _remove(lab, chosen)
    assert found.backend == f"iptables-{left}"
    assert len(found.rules) == len([r for r in _rules() if isinstance(r, Rule)])
    by_hand = [":DOCKER - [0:0]", "-A DOCKER -s 10.7.0.1/32 -p tcp -m tcp --dport 80 -j DROP"]
    assert sorted(_saved(lab, left)) == sorted(before + by_hand)
    assert [x for x in _saved(lab, left) if x not in by_hand] == before
    assert _remove(lab, chosen) == ()


@pytest.mark.parametrize("left", ["nft", "legacy"])
def test_what_the_chosen_one_has_is_not_touched(lab, left):
    lab.make(lab.host(left), *_rules())
    before = _saved(lab, left)
    assert _remove(lab, f"iptables-{left}") == ()
    assert _saved(lab, left) == before


@pytest.mark.parametrize("chosen", ["iptables-legacy", "iptables-nft", None])
def test_our_own_table_goes_whole_unless_it_is_chosen(lab, chosen):
    lab.run("nft", NATIVE.format("netkit:0:global"))
    lab.run("nft", 'table inet other { comment "netkit:0:global"; chain c { }; }')
    assert _remove(lab, "nftables") == ()
    (found,) = _remove(lab, chosen)
    assert str(found) == "nftables: table netkit"
    assert lab.run("nft", "list", "tables").strip() == "table inet other"
    assert _remove(lab, chosen) == ()


def test_a_table_of_another_engine_or_without_an_owner_stays(lab):
    lab.run("nft", NATIVE.format("netkit:9:global"))
    assert _remove(lab, "iptables-nft") == ()
    lab.run("nft", "delete", "table", "netkit")
    lab.run("nft", "table ip netkit { chain c { }; }")
    assert _remove(lab, "iptables-nft") == ()
    assert lab.run("nft", "list", "tables").strip() == "table ip netkit"


@pytest.mark.parametrize("left", ["nft", "legacy"])
def test_rules_of_another_engine_and_dockers_own_chains_stay(lab, left):
    lab.run(f"iptables-{left}", "-N", "DOCKER")
    lab.run(f"iptables-{left}", "-t", "nat", "-N", "DOCKER")
    lab.run(f"iptables-{left}", "-t", "nat", "-A", "PREROUTING", "-j", "DOCKER")
    theirs = rule("filter", "FORWARD", "-s 10.1.1.1/32 -j DROP", owner="netkit:9:aaaaaaaaaaaa")
    lab.host(left).apply([Op(None, theirs)])
    before = _saved(lab, left)
    assert _remove(lab, "nftables") == ()
    assert _saved(lab, left) == before


def test_looking_for_leftovers_makes_no_legacy_tables(lab):
    assert _remove(lab, "iptables-nft") == ()
    assert lab.run("cat", "/proc/net/ip_tables_names") == ""


def test_leftovers_of_two_back_ends_go_together(lab):
    lab.make(lab.host("legacy"), *_rules())
    lab.make(lab.host("nft"), *_rules())
    found = _remove(lab, "nftables")
    assert [str(f).split(":")[0] for f in found] == ["iptables-nft", "iptables-legacy"]
    assert (_saved(lab, "legacy"), _saved(lab, "nft")) == ([], [])
    assert detect_backend.native(lab.home) == ""
