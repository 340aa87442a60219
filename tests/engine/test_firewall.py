"""Who may reach whom, by hand and by `netkit fw`: with real containers and real packets."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.engine import wire
from tests.engine.daemon import Engine, fresh, netkit_only
from tests.engine.test_networks import PAGE, WEB, get
from tests.engine.wire import Wire

pytestmark = netkit_only("dockerd has no `fw`")
BRIDGED = "net.bridge.bridge-nf-call-iptables"


@pytest.fixture(params=["1", "0"], ids=["bridges filtered", "bridges not filtered"])
def anywhere(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Engine]:
    """An engine with each value of the host's setting for all bridges, which it must not change."""
    before = wire.run(engine.netns, "sysctl", "-n", BRIDGED).stdout.strip()
    wire.run(engine.netns, "sysctl", "-qw", f"{BRIDGED}={request.param}")
    yield engine
    assert wire.run(engine.netns, "sysctl", "-n", BRIDGED).stdout.strip() == request.param
    wire.run(engine.netns, "sysctl", "-qw", f"{BRIDGED}={before}")


def typed(engine: Engine, line: str) -> str:
    done = wire.run(engine.netns, *line.split())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_icc_own_and_neighbours_published_ports_are_reached(anywhere: Engine) -> None:
    network = fresh("apart")
    icc = "com.docker.network.bridge.enable_icc=false"
    anywhere.docker("network", "create", "-o", icc, network)
    web, other = (anywhere.up("--network", network, "-p", "80", *WEB) for _ in range(2))
    place = anywhere.inspect(web)["NetworkSettings"]
    port = place["Ports"]["80/tcp"][0]["HostPort"]
    url = f"http://{place['Networks'][network]['Gateway']}:{port}/"
    inside = f"http://{place['Networks'][network]['IPAddress']}/"
    assert get(anywhere, web, url) == PAGE
    assert get(anywhere, other, url) == PAGE
    assert get(anywhere, other, inside, timeout=1) is None
    anywhere.docker("rm", "-f", web, other)
    anywhere.docker("network", "rm", network)


def test_the_drop_of_the_course_typed_by_hand_holds_between_neighbours(anywhere: Engine) -> None:
    """Course 13.5: iptables -I DOCKER -s srcIP -d destIP -p TCP --dport 80 -j DROP"""
    web, friend, foe = anywhere.up(*WEB), anywhere.sleeper(), anywhere.sleeper()
    url, rule = (
        f"http://{anywhere.address(web)}/",
        (f"DOCKER -s {anywhere.address(foe)} -d {anywhere.address(web)} -p TCP --dport 80 -j DROP"),
    )
    assert get(anywhere, foe, url) == PAGE
    typed(anywhere, f"iptables -I {rule}")
    assert get(anywhere, foe, url, timeout=1) is None
    assert get(anywhere, friend, url) == PAGE
    before = typed(anywhere, "iptables -S DOCKER").splitlines()[1]
    anywhere.docker("rm", "-f", anywhere.up("-p", "80", *WEB))
    anywhere.docker("network", "rm", anywhere.out("network", "create", "other"))
    anywhere.kill9()
    anywhere.restart()
    assert typed(anywhere, "iptables -S DOCKER").splitlines()[1] == before
    assert get(anywhere, foe, url, timeout=1) is None
    assert get(anywhere, friend, url) == PAGE
    typed(anywhere, f"iptables -D {rule}")
    assert get(anywhere, foe, url) == PAGE


REPAIR = 2.0  # seconds in which the firewall is as it should be again
VANDALS = {
    "-F": ["{t} -F"],
    "-F and -X": ["{t}-restore EMPTY"],
    "nat -F": ["{t} -t nat -F"],
    "raw -F": ["{t} -t raw -F"],
    "one rule": ["{t} -D DOCKER-FORWARD 1"],
    "ACCEPT on top": ["{t} -I FORWARD -j ACCEPT"],
    "our jumps last": ["{t} -D FORWARD 1", "{t} -A FORWARD -j DOCKER-USER"],
    "an old dump": ["{t}-restore DUMP"],
    "flush ruleset": ["nft flush ruleset"],
}


@pytest.fixture(scope="module", params=["nft", "legacy"])
def watched(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, str]]:
    lan = Wire.lay()
    try:
        engine = Engine(lan, flags=(f"--firewall-backend=iptables-{request.param}",))
        try:
            engine.start()
            engine.load_image()
            yield engine, f"iptables-{request.param}"
        finally:
            engine.destroy()
    finally:
        lan.remove()


def ours(engine: Engine, tool: str) -> list[str]:
    text = wire.run(engine.netns, f"{tool}-save").stdout
    return [line for line in text.splitlines() if "netkit:" in line]


def foreign(engine: Engine, tool: str) -> list[str]:
    text = wire.run(engine.netns, f"{tool}-save").stdout
    return [line for line in text.splitlines() if line[:2] == "-A" and "netkit:" not in line]


@pytest.fixture
def town(watched: tuple[Engine, str]) -> Iterator[tuple[Engine, str]]:
    yield watched
    engine, tool = watched
    engine.clear()
    for line in foreign(engine, tool):
        typed(engine, f"{tool} {line.replace('-A', '-D', 1)}")


@pytest.mark.parametrize("vandal", VANDALS)
def test_what_other_tools_break_is_whole_again_within_two_seconds(
    town: tuple[Engine, str], vandal: str
) -> None:
    engine, tool = town
    engine.up("-p", "8300:80", *WEB)
    passing = engine.up("-p", "8301:80", *WEB)
    typed(engine, f"{tool} -A INPUT -s 192.0.2.1 -j DROP")
    typed(engine, f"{tool} -I DOCKER -s 192.0.2.2 -j DROP")
    dump = engine.folder / "dump"
    dump.write_text(wire.run(engine.netns, f"{tool}-save").stdout)
    (engine.folder / "empty").write_text("*filter\nCOMMIT\n*nat\nCOMMIT\n*raw\nCOMMIT\n")
    engine.docker("rm", "-f", passing)  # the dump knows it still
    before = ours(engine, tool)
    for line in VANDALS[vandal]:
        if not (tool == "iptables-legacy" and line.startswith("nft")):
            text = line.format(t=tool)
            for word in ("DUMP", "EMPTY"):
                text = text.replace(word, str(engine.folder / word.lower()))
            typed(engine, text)
    theirs = foreign(engine, tool)
    deadline = time.monotonic() + REPAIR
    while (now := ours(engine, tool)) != before:
        changed = sorted(set(before) ^ set(now)) or "out of order"
        assert time.monotonic() < deadline, (changed, engine.log_tail())
        time.sleep(0.05)
    copies = ["-A FORWARD -j DOCKER-USER"]  # go as well, see below
    while foreign(engine, tool) != [line for line in theirs if line not in copies]:
        assert time.monotonic() < deadline + REPAIR, foreign(engine, tool)
    wire.connected(engine.wire.neighbour, f"http://{wire.HOST}:8300/")


COMMENT = re.compile(r'-m comment --comment "[^"]*" ')


def unmarked(engine: Engine, tool: str, how: str) -> Callable[[], None]:
    """Take a dump of all rules; a call of what is returned restores it without comments."""
    file = engine.folder / "unmarked"
    if how == "nft":  # as nftables.service does
        file.write_text("flush ruleset\n" + typed(engine, "nft list ruleset"))
        return lambda: void(typed(engine, f"nft -f {file}"))
    file.write_text(COMMENT.sub("", typed(engine, f"{tool}-save")))
    return lambda: void(typed(engine, f"{tool}-restore {file}"))


def void(_: str) -> None:
    """Nothing."""


def listed(engine: Engine, tool: str, word: str) -> int:
    """Count the rules that contain this, also where iptables cannot list a table."""
    command = "nft list ruleset" if tool == "iptables-nft" else f"{tool}-save"
    return sum(word in line for line in typed(engine, command).splitlines())


def settled(engine: Engine, tool: str, expected: dict[str, int]) -> None:
    deadline = time.monotonic() + 3 * REPAIR
    while engine.netkit("fw", "check", check=False).returncode:
        assert time.monotonic() < deadline, engine.log_tail()
    while (now := {word: listed(engine, tool, word) for word in expected}) != expected:
        assert time.monotonic() < deadline, (now, engine.log_tail())
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["iptables-save", "nft"])
def test_rules_that_lost_their_mark_go_and_those_of_the_administrator_stay(
    town: tuple[Engine, str], how: str
) -> None:
    engine, tool = town
    if (tool, how) == ("iptables-legacy", "nft"):
        pytest.skip("nft does not know legacy tables")
    web = engine.up("-p", "8305:80", *WEB)
    many = engine.up(*(f"-p{port}:80" for port in range(9000, 9200, 5)), *WEB)
    typed(engine, f"{tool} -I DOCKER -s 192.0.2.2 -j DROP")
    typed(engine, f"{tool} -A FORWARD -s 192.0.2.3 -j DROP")
    own = f"-t nat -A DOCKER -p tcp --dport 8306 -j DNAT --to-destination {engine.address(web)}:80"
    typed(engine, f"{tool} {own}")
    theirs = {"192.0.2.2": 1, "192.0.2.3": 1, "8306": 1}
    restore = unmarked(engine, tool, how)
    once = {word: listed(engine, tool, word) for word in ("8305", "9005", "dnat", "DNAT")}
    try:
        restore()
        settled(engine, tool, {**theirs, **once})
        wire.connected(engine.wire.neighbour, f"http://{wire.HOST}:8306/")
        engine.docker("rm", "-f", web, many)
        settled(engine, tool, {**theirs, "8305": 0, "9005": 0})
        restore()  # what it refers to no longer exists
        settled(engine, tool, {"192.0.2.2": 1, "192.0.2.3": 1, "8305": 0, "9005": 0})
        engine.kill9()
        restore()
        engine.restart()
        settled(engine, tool, {"192.0.2.2": 1, "192.0.2.3": 1, "8305": 0, "9005": 0})
        assert engine.netkit("fw", "check").stdout == "the firewall is as it should be\n"
    finally:
        if tool == "iptables-nft":  # some rules may be in a form that iptables cannot remove
            typed(engine, "nft flush ruleset")


def test_what_has_no_mark_in_a_chain_of_ours_alone_is_shown_and_removed(
    town: tuple[Engine, str],
) -> None:
    engine, tool = town
    web = engine.up("-p", "8307:80", *WEB)
    alone = ("DOCKER-FORWARD", "DOCKER-CT", "DOCKER-ACCESS")
    for chain in alone:
        typed(engine, f"{tool} -I {chain} -s 192.0.2.4 -d {engine.address(web)} -j ACCEPT")
    # As another engine has it, for its bridge.
    typed(engine, f"{tool} -A DOCKER-CT -o lo -m conntrack --ctstate ESTABLISHED -j ACCEPT")
    settled(engine, tool, {"192.0.2.4": 0})
    assert len([k for k in foreign(engine, tool) if "DOCKER-CT" in k]) == 1
    output = engine.log_tail()
    assert all(
        f"removed a rule without netkit's mark in filter {chain}" in output for chain in alone
    )


# netkit fw


def lan_get(engine: Engine, port: int, timeout: int = 1) -> str | None:
    return wire.fetch(engine.wire.neighbour, f"http://{wire.HOST}:{port}/", timeout=timeout)


def test_fw_drop_keeps_a_neighbour_on_the_lan_out_until_it_is_removed(engine: Engine) -> None:
    web = engine.up("-p", "8310:80", "-p", "8311:80", *WEB)
    wire.connected(engine.wire.neighbour, f"http://{wire.HOST}:8310/")
    rule = engine.netkit("fw", "drop", "--src", wire.NEIGHBOUR, "--to", web, "--port", "80/tcp")
    assert lan_get(engine, 8310) is None
    assert lan_get(engine, 8311) is None
    assert get(engine, engine.sleeper(), f"http://{engine.address(web)}/") == PAGE
    engine.netkit("fw", "rm", rule.stdout.strip())
    wire.connected(engine.wire.neighbour, f"http://{wire.HOST}:8310/")


def test_fw_drop_of_a_published_port_leaves_the_other_one_open(engine: Engine) -> None:
    web = engine.up("-p", "8310:80", "-p", "8311:80", *WEB)
    engine.netkit("fw", "drop", "--to", web, "--published", "8310/tcp")
    wire.connected(engine.wire.neighbour, f"http://{wire.HOST}:8311/")
    assert lan_get(engine, 8310) is None


def test_fw_accept_before_a_drop_is_an_exception_to_it(anywhere: Engine) -> None:
    web, friend, foe = anywhere.up(*WEB), anywhere.sleeper(), anywhere.sleeper()
    url = f"http://{anywhere.address(web)}/"
    anywhere.netkit("fw", "drop", "--src", "172.17.0.0/16", "--to", web)
    assert get(anywhere, friend, url, timeout=1) is None
    anywhere.netkit("fw", "accept", "--first", "--src", friend, "--to", web, "-p", "80")
    assert get(anywhere, friend, url) == PAGE
    assert get(anywhere, foe, url, timeout=1) is None
    lines = anywhere.netkit("fw", "ls").stdout.splitlines()
    assert lines[0].split("  ")[0] == "RULE ID"
    assert [line.split()[1:5] for line in lines[1:]] == [
        ["accept", friend, web, "80/tcp"],
        ["drop", "172.17.0.0/16", web, "all"],
    ]


def test_an_established_flow_falls_silent_at_once(engine: Engine) -> None:
    flow = engine.up("busybox", "nc", "-ll", "-p", "9", "-e", "cat")
    client = engine.sleeper()
    script = f"(while :; do echo x; sleep 0.1; done) | nc {engine.address(flow)} 9 > /tmp/got"
    engine.docker("exec", "-d", client, "sh", "-c", script)
    deadline = time.monotonic() + 60

    def got() -> int:
        return int(engine.out("exec", client, "sh", "-c", "cat /tmp/got 2>/dev/null | wc -l"))

    while got() < 3:
        assert time.monotonic() < deadline
    engine.netkit("fw", "drop", "--src", client, "--to", flow)
    before = got()
    while time.sleep(1) or (now := got()) != before:  # on a busy machine some are still in pipes
        assert time.monotonic() < deadline
        before = now


def test_a_rule_is_the_containers_own_over_restarts_kills_and_recycled_addresses(
    own_engine: Engine,
) -> None:
    e = own_engine
    web, foe = e.up(*WEB, name="web"), e.sleeper(name="foe")
    e.netkit("fw", "drop", "--src", "foe", "--to", "web", "--port", "80")
    was = e.address(web)
    assert get(e, foe, f"http://{was}/", timeout=1) is None
    e.docker("stop", "-t", "0", web)
    thief = e.up(*WEB)
    assert e.address(thief) == was
    assert get(e, foe, f"http://{was}/") == PAGE
    e.docker("start", web)
    assert get(e, foe, f"http://{e.address(web)}/", timeout=1) is None
    e.kill9()
    e.restart()
    assert get(e, foe, f"http://{e.address(web)}/", timeout=1) is None
    assert get(e, thief, f"http://{e.address(web)}/") == PAGE
    assert e.netkit("fw", "ls", "-q").stdout.strip()
    e.docker("rm", "-f", web)
    assert e.netkit("fw", "ls", "-q").stdout == ""


def test_what_makes_no_sense_is_refused_in_one_line(engine: Engine) -> None:
    web = engine.sleeper()
    for args, message in (
        (("drop", "--src", "192.0.2.1"), "--to is needed"),
        (("drop", "--to", "nobody"), "No such container: nobody"),
        (("drop", "--to", web, "--src", "192.0.2.1/24"), "host bits set"),
        (("drop", "--to", web, "--port", "80/icmp"), "invalid protocol"),
        (("drop", "--to", web, "--src", web), "the same container"),
        (("drop", "--to", web, "--port", "80", "--published", "80"), "exclude each other"),
        (("rm", "abc"), "no such access rule: abc"),
    ):
        done = engine.netkit("fw", *args, check=False)
        assert done.returncode != 0, args
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    host = engine.up("--network", "host", "busybox", "sleep", "1000")
    refused = engine.netkit("fw", "drop", "--to", host, check=False)
    assert "use the host's own firewall" in refused.stderr


def test_fw_check_shows_drift_as_a_diff_and_show_in_sentences(engine: Engine) -> None:
    web = engine.up("-p", "8312:80", "-p", "127.0.0.1:8313:80", *WEB)
    engine.netkit("fw", "drop", "--src", "192.0.2.0/24", "--to", web)
    assert engine.netkit("fw", "check").stdout == "the firewall is as it should be\n"
    text = engine.netkit("fw", "show", web).stdout
    assert "drop 192.0.2.0/24" in text
    assert "0.0.0.0:8312 -> 80/tcp, for every host that reaches this host" in text
    assert "127.0.0.1:8313 -> 80/tcp, for this host only" in text
    assert "on bridge reach all its ports (icc)" in text
    shown = engine.netkit("fw", "show", "--format", "json", web).stdout
    assert '"HostPort": 8312' in shown
    assert engine.netkit("fw", "repair").stdout == "there was nothing to repair\n"


def test_many_ports_make_chains_that_go_with_the_container_also_after_a_kill(
    own_engine: Engine,
) -> None:
    def chains() -> set[str]:
        lines = typed(own_engine, "iptables -t nat -S").splitlines()
        return {line.removeprefix("-N ") for line in lines if line.startswith("-N")}

    before = chains()
    name = own_engine.up(*(f"-p{port}:80" for port in range(9000, 9200, 5)), *WEB)
    wire.connected(own_engine.wire.neighbour, f"http://{wire.HOST}:9195/")
    tree = chains() - before
    endpoint = own_engine.inspect(name)["NetworkSettings"]["EndpointID"]
    assert tree
    assert all(chain.startswith(f"DOCKER-{endpoint[:8]}") for chain in tree)
    own_engine.docker("rm", "-f", name)
    assert chains() == before
    for chain in (*tree, "MINE"):  # as a kill in the middle of a start would leave them
        typed(own_engine, f"iptables -t nat -N {chain}")
    own_engine.kill9()
    own_engine.restart()
    assert chains() == before | {"MINE"}


def test_fw_explain_names_the_very_rule_that_decides(engine: Engine) -> None:
    web, client = engine.up("-p", "8314:80", *WEB), engine.sleeper()
    lan = f"lan:{wire.NEIGHBOUR}"

    def asked(*args: str) -> tuple[int, str]:
        done = engine.netkit("fw", "explain", *args, check=False)
        return done.returncode, done.stdout

    code, text = asked(client, web, "80/tcp")
    assert code == 0
    assert "DELIVERED" in text
    code, text = asked(lan, wire.HOST, "8314")
    assert code == 0
    assert "DNAT" in text
    code, text = asked(lan, web, "80")
    assert code == 1
    assert "DROPPED" in text
    assert "-j DROP" in text
    typed(engine, f"iptables -I DOCKER-USER -s {wire.NEIGHBOUR} -p tcp -j DROP")
    code, text = asked(lan, wire.HOST, "8314")
    assert code == 1
    assert "DOCKER-USER" in text
    assert lan_get(engine, 8314) is None
    typed(engine, f"iptables -D DOCKER-USER -s {wire.NEIGHBOUR} -p tcp -j DROP")
    made = engine.netkit("fw", "drop", "--src", wire.NEIGHBOUR, "--to", web).stdout.split()
    code, text = asked(lan, wire.HOST, "8314")
    assert code == 1
    assert "DOCKER-ACCESS" in text
    assert f"an access rule {made[0]} (ours" in text
    shown = engine.netkit("fw", "explain", "--format", "json", lan, wire.HOST, "8314", check=False)
    assert '"verdict": "dropped"' in shown.stdout
    bad = engine.netkit("fw", "explain", client, web, "80/x", check=False)
    assert "invalid service '80/x'" in bad.stderr
    assert bad.returncode == 1


# what the front ends say, held to packets


def test_fw_show_lists_the_rules_of_other_tools_that_hit_the_container(engine: Engine) -> None:
    web, other = engine.up("-p", "8320:80", *WEB), engine.sleeper()
    at = engine.address(web)
    rules = (  # the first as the course types it (13.5)
        f"DOCKER -s {wire.NEIGHBOUR} -d {at} -p TCP --dport 80 -j DROP",
        f"DOCKER-USER -s {wire.WORLD} -d {at} -j DROP",
        f"FORWARD -d {at} -p udp -j DROP",
    )
    for rule in rules:
        typed(engine, f"iptables -I {rule}")
    try:
        output = engine.netkit("fw", "show", web).stdout
        assert lan_get(engine, 8320) is None
        for chain in ("DOCKER", "DOCKER-USER", "FORWARD"):
            assert re.search(rf"filter {chain} \d \(iptables-nft\): -A {chain} -", output), output
        assert "but for the rules above" in output
        assert at not in engine.netkit("fw", "show", other).stdout
    finally:
        for rule in rules:
            typed(engine, f"iptables -D {rule}")
    wire.connected(engine.wire.neighbour, f"http://{wire.HOST}:8320/")


def test_comments_name_the_container_and_rules_of_an_earlier_version_are_the_same(
    own_engine: Engine,
) -> None:
    e = own_engine
    web = e.up("-p", "8324:80", *WEB)
    assert f"({web} on bridge)" in typed(e, "iptables -t nat -S DOCKER")
    file = e.folder / "earlier"
    file.write_text(re.sub(r' \([^)"]* on [^)"]*\)"', '"', typed(e, "iptables-nft-save")))
    e.kill9()
    typed(e, f"iptables-nft-restore {file}")
    e.restart()
    assert e.netkit("fw", "check").stdout == "the firewall is as it should be\n"
    assert f"({web} on bridge)" not in typed(e, "iptables -t nat -S DOCKER")  # left as they are
    e.docker("rm", "-f", web)
    assert "8324" not in typed(e, "iptables -t nat -S DOCKER")


def test_a_rule_by_a_port_that_is_not_published_is_refused(engine: Engine) -> None:
    web = engine.up("-p", "8321:80", "-p", "443", *WEB)
    refused = engine.netkit("fw", "drop", "--to", web, "--published", "8322/udp", check=False)
    assert f"container {web} does not publish port 8322/udp of the host" in refused.stderr
    lonely = engine.sleeper("--network", "none")
    engine.netkit("fw", "drop", "--to", lonely)
    engine.netkit("fw", "drop", "--to", web, "--published", "8321")
    engine.netkit("fw", "drop", "--to", web, "--published", "9")  # 443's may become that
    rows = engine.netkit("fw", "ls").stdout.splitlines()[1:]
    status = [row.split("  ")[-1].strip() for row in rows]
    assert status == [
        "not in force: the container is on no network with rules",
        "in force",
        "not in force: the port is not published",
    ]


@pytest.mark.parametrize("own_engine", [("--iptables=false", "--ip-forward=false")], indirect=True)
def test_without_rules_nothing_is_reported_as_in_force(own_engine: Engine) -> None:
    e = own_engine
    run = e.docker("run", "-d", "--name", "web", "-p", "8323:80", *WEB)
    assert "Published ports are reserved, but nothing leads from them" in run.stderr
    assert "IPv4 forwarding is disabled. Networking will not work." in run.stderr
    assert "WARNING: IPv4 forwarding is disabled" in e.docker("info").stderr
    mate = e.sleeper()
    assert get(e, mate, f"http://{e.address('web')}/") == PAGE
    assert lan_get(e, 8323) is None
    refused = e.netkit("fw", "drop", "--src", mate, "--to", "web", check=False)
    assert "the rule would not hold: netkit writes no rules (--iptables=false)" in refused.stderr
    assert e.netkit("fw", "ls", "-q").stdout == ""
    for verb in ("check", "repair"):
        assert "netkit writes no rules here" in e.netkit("fw", verb).stdout
    output = e.netkit("fw", "show", "web").stdout
    assert "0.0.0.0:8323 is reserved, and nothing leads from there to 80/tcp" in output
    assert "never" not in output
    wire.run(e.netns, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    wire.run(e.wire.neighbour, "ip", "route", "add", "172.17.0.0/16", "via", wire.HOST)
    wire.connected(e.wire.neighbour, f"http://{e.address('web')}/")
    assert f"every host with a route to {e.address('web')} reaches all its ports" in output


def test_fw_show_says_who_is_behind_a_bridge_of_the_administrators() -> None:
    """`-b br0` with the NIC in it: a neighbour on the LAN is one of the container's."""
    lan = Wire.lay()
    try:
        for words in (
            f"addr del {wire.HOST}/24 dev eth0", "link add br0 type bridge",
            "link set eth0 master br0", "link set br0 up", f"addr add {wire.HOST}/24 dev br0",
        ):  # fmt: skip
            assert wire.run(lan.host, "ip", *words.split()).returncode == 0
        engine = Engine(lan, flags=("-b", "br0", "--fixed-cidr", "10.77.0.128/25"))
        try:
            engine.start()
            engine.load_image()
            web = engine.up(*WEB)
            output = engine.netkit("fw", "show", web).stdout
            wire.connected(lan.neighbour, f"http://{engine.address(web)}/")
            assert "but hosts behind eth0 of br0 reach all ports there" in output
        finally:
            engine.destroy()
    finally:
        lan.remove()
