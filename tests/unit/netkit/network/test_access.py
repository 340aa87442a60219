"""Access rules by name: in force for exactly the containers they name, whatever their addresses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import Conflict, InvalidSpec, KernelError, NotFound, NotSupported
from netkit.model import Rule
from netkit.network.access import UNREADABLE, AccessRule, parse_port, validate
from netkit.network.config import NetworkConfig
from netkit.spec import LinkedPorts
from tests.unit.netkit.network.test_controller import IP, Bench, box, deaths, on


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    b = Bench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    yield b
    b.database.close()


def up(bench: Bench, name: str, **more: object) -> str:
    (record,) = bench.net.open(box(name), [on(bench.net.find("bridge"), **more)], [])
    return record.address.partition("/")[0]


def down(bench: Bench, name: str) -> None:
    bench.net.close(box(name).id)


def drop(target: str, *sources: str, source: str = "", **more: object) -> AccessRule:
    return AccessRule(
        verdict="drop",
        target=box(target).id,
        sources=sources,
        source=box(source).id if source else "",
        **more,  # type: ignore[arg-type]
    )


def in_force(bench: Bench, chain: str = "DOCKER-ACCESS") -> set[tuple[str, str]]:
    """Return (source, destination) of the rules in a chain."""
    out = set()
    for r in bench.kernel.things.values():
        if isinstance(r, Rule) and r.chain == chain and "-s" in r.args and "-d" in r.args:
            at = {w: r.args[r.args.index(w) + 1].removesuffix("/32") for w in ("-s", "-d")}
            out.add((at["-s"], at["-d"]))
    return out


def test_a_rule_is_in_force_while_its_target_runs_and_follows_its_address(bench: Bench) -> None:
    rule = bench.net.add_access_rule(drop("web", "192.0.2.0/24"))
    assert in_force(bench) == set()
    first = up(bench, "web")
    assert in_force(bench) == {("192.0.2.0/24", first)}
    down(bench, "web")
    assert in_force(bench) == set()
    assert up(bench, "thief") == first
    assert in_force(bench) == set()  # the rule does not apply to the next owner of the address
    second = up(bench, "web")
    assert second != first
    assert in_force(bench) == {("192.0.2.0/24", second)}
    bench.killed()
    bench.net.restore({box(n).id: box(n) for n in ("web", "thief")})
    assert in_force(bench) == {("192.0.2.0/24", second)}
    bench.net.remove_access_rule(rule.id[:5])
    assert in_force(bench) == set()


def test_sources_come_and_go_though_everything_was_flushed(bench: Bench) -> None:
    web, _ = up(bench, "web"), up(bench, "foe")
    bench.net.add_access_rule(drop("web", source="foe"))
    for act in (lambda: down(bench, "foe"), lambda: up(bench, "foe")):
        for key, r in list(bench.kernel.things.items()):
            if r.is_firewall:
                del bench.kernel.things[key]
        act()
    foe = bench.net.endpoints(sandbox=box("foe").id)[0].address.partition("/")[0]
    assert in_force(bench) == {(foe, web)}


def test_a_source_that_is_a_container_is_followed_too(bench: Bench) -> None:
    web, foe = up(bench, "web"), up(bench, "foe")
    bench.net.add_access_rule(drop("web", source="foe"))
    assert in_force(bench) == {(foe, web)}
    down(bench, "foe")
    assert in_force(bench) == set()
    assert up(bench, "friend") == foe
    assert in_force(bench) == set()
    again = up(bench, "foe")
    assert in_force(bench) == {(again, web)}


def test_rules_go_with_either_container(bench: Bench) -> None:
    up(bench, "web")
    up(bench, "foe")
    bench.net.add_access_rule(drop("web", source="foe"))
    bench.net.add_access_rule(drop("foe", "192.0.2.1"))
    down(bench, "foe")
    bench.net.forget(box("foe").id)
    assert bench.net.access() == []
    assert in_force(bench) == set()


def test_rules_stand_in_the_order_they_were_given_unless_placed(bench: Bench) -> None:
    up(bench, "web")
    made = [bench.net.add_access_rule(drop("web", f"192.0.2.{n}")) for n in (1, 2)]
    made.insert(
        0,
        bench.net.add_access_rule(replace_verdict(drop("web", "192.0.2.3"), "accept"), first=True),
    )
    assert bench.net.access() == made
    ranks = sorted(
        (r.rank, r.args) for r in bench.kernel.things.values()
        if isinstance(r, Rule) and r.chain == "DOCKER-ACCESS"
    )  # fmt: skip
    assert [a[a.index("-s") + 1] for _, a in ranks] == [f"192.0.2.{n}/32" for n in (3, 1, 2)]


def replace_verdict(rule: AccessRule, verdict: str) -> AccessRule:
    import msgspec

    return msgspec.structs.replace(rule, verdict=verdict)


def test_the_same_rule_twice_is_refused(bench: Bench) -> None:
    made = bench.net.add_access_rule(drop("web", "192.0.2.1"))
    with pytest.raises(Conflict, match=f"access rule {made.id} is the same already"):
        bench.net.add_access_rule(drop("web", "192.0.2.1/32"))
    with pytest.raises(NotFound, match="no such access rule: zz"):
        bench.net.remove_access_rule("zz")


def test_a_rule_the_kernel_refuses_is_not_remembered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(bench, "web")
    before = bench.things()

    def refuse(ops: object) -> None:
        raise KernelError("no")

    with monkeypatch.context() as patched:
        patched.setattr(bench.kernel, "apply", refuse)
        with pytest.raises(KernelError, match="no"):
            bench.net.add_access_rule(drop("web", "192.0.2.1"))
    assert bench.net.access() == []
    assert bench.things() == before


def test_a_rule_that_cannot_be_read_is_listed_removed_and_goes_with_its_container(
    bench: Bench,
) -> None:
    kept, lost, unreadable = (
        bench.net.add_access_rule(drop("web", f"192.0.2.{n}")) for n in (1, 2, 3)
    )
    bench.database.execute("UPDATE access SET doc=? WHERE id != ?", (b'{"id": 5', kept.id))
    found = [(r.id, r.verdict, r.target) for r in bench.net.access()]
    web = box("web").id
    assert found == [(kept.id, "drop", web), *((r.id, UNREADABLE, web) for r in (lost, unreadable))]
    assert {left.id for left in bench.database.left_out()} == {lost.id, unreadable.id}
    with pytest.raises(Conflict, match=f"access rule {lost.id} .* cannot be read"):
        up(bench, "web")
    assert bench.net.remove_access_rule(lost.id).verdict == UNREADABLE
    assert [left.id for left in bench.database.left_out()] == [unreadable.id]
    bench.net.forget(web)
    assert bench.net.access() == [] == bench.database.left_out()


def test_an_unreadable_rule_stays_where_its_removal_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench.net.add_access_rule(drop("web", "192.0.2.1"))
    bench.database.execute("UPDATE access SET doc=7")

    def refuse(target: str) -> None:
        raise KernelError("no")

    monkeypatch.setattr(bench.net._sandboxes.policy_sync, "sync_sandbox", refuse)
    with pytest.raises(KernelError, match="no"):
        bench.net.remove_access_rule(made.id)
    assert [tuple(r) for r in bench.database.rows("SELECT id, doc FROM access")] == [(made.id, 7)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "reject"}, "invalid verdict 'reject'"),
        ({"sources": ()}, "either networks or one container"),
        ({"sources": ("192.0.2.1/24",)}, "has host bits set"),
        ({"sources": ("nobody",)}, "invalid source 'nobody'"),
        ({"proto": "icmp"}, "invalid protocol 'icmp'"),
        ({"first": 80, "last": 80}, "ports need a protocol"),
        ({"proto": "tcp", "first": 90, "last": 80}, "lower first"),
        ({"published": True}, "needs its number"),
        ({"sources": (), "source": "t"}, "the same container"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    import msgspec

    good = AccessRule(verdict="drop", target="t", sources=("192.0.2.1",))
    with pytest.raises(InvalidSpec, match=message):
        validate(msgspec.structs.replace(good, **changes))


def test_ports_are_read() -> None:
    assert parse_port("80") == ("tcp", 80, 80)
    assert parse_port("8000-8010/udp") == ("udp", 8000, 8010)
    for bad in ("", "x", "0", "65536", "9-8", "80/icmp", "80/tcp/udp"):
        with pytest.raises(InvalidSpec, match="invalid p"):
            parse_port(bad)
    with pytest.raises(NotSupported, match="IPv6"):
        validate(AccessRule(verdict="drop", target="t", sources=("2001:db8::1",)))


# links


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Bench]:
    b = Bench(tmp_path / "strict", NetworkConfig(ip=IP, icc=False))
    b.net.start()
    yield b
    b.database.close()


def opens(child: str, *ports: int) -> tuple[LinkedPorts, ...]:
    return (LinkedPorts(sandbox=box(child).id, ports=tuple(("tcp", p) for p in ports)),)


def test_a_link_opens_the_pair_both_ways_and_follows_both(strict: Bench) -> None:
    db = up(strict, "db")
    app = up(strict, "app", opens=opens("db", 80))
    assert in_force(strict, "DOCKER") == {(app, db), (db, app)}
    down(strict, "db")
    assert in_force(strict, "DOCKER") == set()
    assert up(strict, "thief") == db
    assert in_force(strict, "DOCKER") == set()
    db = up(strict, "db")
    assert in_force(strict, "DOCKER") == {(app, db), (db, app)}
    down(strict, "app")
    assert in_force(strict, "DOCKER") == set()
    app = up(strict, "app", opens=opens("db", 80))
    strict.net.set_linked_ports(box("app").id, strict.net.find("bridge").id, ())
    assert in_force(strict, "DOCKER") == set()


def test_with_icc_links_need_no_rules(bench: Bench) -> None:
    up(bench, "db")
    up(bench, "app", opens=opens("db", 80))
    assert in_force(bench, "DOCKER") == set()


# at random, and killed


@pytest.mark.slow
def test_no_rule_is_stale_or_missing_after_a_thousand_random_steps(bench: Bench) -> None:
    rng, names = random.Random(7), [f"c{n}" for n in range(6)]
    addresses: dict[str, str] = {}
    rules: dict[str, AccessRule] = {}
    for step in range(1000):
        name = rng.choice(names)
        if rng.random() < 0.5:
            if name in addresses:
                down(bench, name)
                del addresses[name]
            else:
                addresses[name] = up(bench, name)
        elif rules and rng.random() < 0.5:
            rule = rules.pop(rng.choice(sorted(rules)))
            bench.net.remove_access_rule(rule.id)
        else:
            other = rng.choice([n for n in names if n != name])
            by_name = rng.random() < 0.6
            request = drop(name, source=other) if by_name else drop(name, f"192.0.2.{step % 250}")
            try:
                made = bench.net.add_access_rule(request)
            except Conflict:
                continue
            rules[made.id] = made
        if step % 200 == 199:
            bench.killed()
            bench.net.restore({box(n).id: box(n) for n in addresses})
        assert in_force(bench) == expected(rules, addresses), step


def expected(rules: dict[str, AccessRule], at: dict[str, str]) -> set[tuple[str, str]]:
    by_id = {box(n).id: a for n, a in at.items()}
    out = set()
    for r in rules.values():
        if r.target not in by_id:
            continue
        sources = [s.removesuffix("/32") for s in r.sources] or [by_id.get(r.source, "")]
        out |= {(s, by_id[r.target]) for s in sources if s}
    return out


@pytest.mark.slow
def test_killed_anywhere_between_two_containers_no_rule_is_stale(bench: Bench) -> None:
    web = up(bench, "web")
    bench.net.add_access_rule(drop("web", source="foe"))
    live = {box("web").id: box("web")}
    count = 0

    def act() -> None:
        up(bench, "foe")
        down(bench, "foe")

    for _ in deaths(bench, act):
        bench.net.restore(live)
        assert in_force(bench) == set()
        foe = up(bench, "foe")
        assert in_force(bench) == {(foe, web)}
        down(bench, "foe")
        count += 1
    assert count > 6
