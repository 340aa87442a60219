"""What has to be done for a lab that is up, from its record and lab.yml."""

from __future__ import annotations

import pytest

from netkit.lab.changes import CUT_SHORT, Changes, Step, changes
from netkit.lab.model import Lab
from netkit.lab.parts import Part, Parts, parts, wired
from netkit.lab.reading import parsed
from netkit.lab.record import Recorded

BASE = """
underlay: {lan: {}, wan: {mtu: 1400}}
images: {site: {files: {/www/a: x}}}
hosts:
  h1:
    interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}
    daemon: [--icc=false]
    images: [busybox, site]
    networks: {lane: {subnet: 10.9.0.0/24}, back: {}}
    containers:
      db: {networks: [lane]}
      web: {networks: [back], ports: ["8080:80"]}
      own: {}
      site: {image: site, networks: [back]}
      peer: {flags: [--network=container:web]}
      app: {networks: [back], links: [db]}
    firewall: ["iptables -I DOCKER-USER -d {web} -j DROP"]
  h2:
    daemon: false
    interfaces: {eth0: {segment: lan, address: 10.0.0.2/24}, eth1: {segment: wan}}
    routes: [10.9.0.0/24 via 10.0.0.1]
    sysctls: {net.ipv4.ip_forward: 1}
"""


def read(text: str) -> Lab:
    return parsed(text, "x")


def described(lab: Lab) -> Parts:
    return parts(lab, {h.name: h.daemon for h in lab.hosts if h.daemon is not None})


def changed(
    *edits: tuple[str, str], base: str = BASE, begun: dict[Part, list[object]] | None = None
) -> Changes:
    text = base
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    lab = read(text)
    return changes(lab, described(lab), Recorded(described(read(base)), begun or {}))


def names(found: dict[Part, str]) -> set[str]:
    return {" ".join(part) for part in found}


def test_nothing_changed_is_nothing_to_do() -> None:
    assert not changed()
    assert not changed(("checks", "checks"), base=f"{BASE}checks: [h2 -> h1 ok]\n")


def test_a_new_part_is_made_and_one_that_left_removed() -> None:
    found = changed(
        ("lane: {subnet: 10.9.0.0/24}", "lane: {subnet: 10.9.0.0/24}, more: {}"),
        ("      own: {}\n", "      other: {}\n"),
    )
    assert names(found.made) == {"network h1 more", "container h1 other"}
    assert names(found.removed) == {"container h1 own"}
    assert not found.wires
    assert not found.refused


def test_what_stands_on_a_network_goes_and_comes_with_it() -> None:
    found = changed(("10.9.0.0/24}", "10.8.0.0/24}"))
    expected = {"network h1 lane", "container h1 db", "container h1 app"}  # app has a link to db
    assert names(found.removed) == names(found.made) == expected
    assert found.removed["container", "h1", "db"] == "it stands on network lane of h1"
    assert found.removed["network", "h1", "lane"] == "subnet changed"


def test_a_container_that_shares_anothers_namespace_goes_with_it() -> None:
    found = changed(('["8080:80"]', '["8081:80"]'))
    assert names(found.removed) == {"container h1 web", "container h1 peer"}
    assert found.firewall == {"h1": "the address of web may change"}


def test_an_image_takes_its_containers_with_it() -> None:
    found = changed(("/www/a: x", "/www/a: y"))
    assert names(found.made) == {"image h1 site", "container h1 site"}
    assert found.removed["image", "h1", "site"] == "files changed"


def test_other_flags_of_netkitd_restart_it_and_containers_on_the_default_network() -> None:
    found = changed(("--icc=false", "--icc=true"))
    assert found.daemons == {"h1": "changed"}
    assert names(found.removed) == {"container h1 own"}  # peer is in web's namespace


def test_links_addresses_and_segments_are_changed_in_place() -> None:
    found = changed(
        ("10.0.0.2/24", "10.0.0.3/24"), ("mtu: 1400", "mtu: 1300"),
        ("net.ipv4.ip_forward: 1", "net.ipv4.ip_forward: 0"),
        ("10.9.0.0/24 via", "10.8.0.0/24 via"),
    )  # fmt: skip
    assert names(found.wires) == {"interface h2 eth0", "segment wan", "sysctls h2", "routes h2"}
    assert not found.removed
    assert not found.made


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("    daemon: false\n", "", "netkitd changed"),
        ("    daemon: false\n", "    daemon: false\n    setup: [ip link]\n", "setup changed"),
        ("    daemon: false\n", "    daemon: false\n    ovs: true\n", "ovs changed"),
        ("{net.ipv4.ip_forward: 1}", "{}", "the former value of net.ipv4.ip_forward is not known"),
    ],
)  # fmt: skip
def test_what_a_host_cannot_change_in_place_replaces_it(old: str, new: str, why: str) -> None:
    found = changed((old, new))
    assert found.removed == {("host", "h2"): why}
    assert names(found.made) == {"host h2"}
    assert not found.wires


def test_a_host_whose_setup_may_stand_on_its_interface_is_replaced() -> None:
    base = BASE.replace("    daemon: false\n", "    daemon: false\n    setup: [ip link]\n")
    found = changed(("10.0.0.2/24", "10.0.0.3/24"), base=base)
    assert found.removed == {("host", "h2"): "its `setup` may stand on interface eth0 of h2"}
    lan = BASE.replace("back: {}", "back: {driver: lan, options: {parent: eth0}}")
    found = changed(("10.0.0.1/24", "10.0.0.5/24"), base=lan)
    assert found.removed == {("host", "h1"): "a network has taken over interface eth0 of h1"}


def test_firewall_lines_that_cannot_be_taken_back_replace_the_host() -> None:
    line = '["iptables -I DOCKER-USER -d {web} -j DROP"]'
    more = '["iptables -I DOCKER-USER -d {web} -j DROP", "ip rule add from {db} table 9"]'
    base = BASE.replace(line, more)
    assert changed((line, more)).firewall == {"h1": "changed"}  # one more is run
    found = changed((more, line), base=base)
    why = "`ip rule add from {db} table 9` cannot be taken back"
    assert found.removed == {("host", "h1"): why}
    assert changed((line, "[]")).firewall == {"h1": "changed"}


def test_hosts_come_and_go_with_all_that_is_theirs() -> None:
    found = changed(("  h2:", "  h3:"))
    assert names(found.removed) == {"host h2"}
    assert names(found.made) == {"host h3"}


def test_a_cut_short_change_is_made_anew() -> None:
    part = ("container", "h1", "own")
    found = changed(begun={part: [None]})
    assert found.removed == {part: CUT_SHORT}
    assert names(found.made) == {"container h1 own"}
    assert changed(begun={("host", "h2"): [{}]}).removed == {("host", "h2"): CUT_SHORT}


CLUSTER = """
underlay: {lan: {}}
cluster: [h1]
hosts:
  h1: {interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}}
  h2: {interfaces: {eth0: {segment: lan, address: 10.0.0.2/24}}}
"""


def test_what_a_cluster_knows_is_refused() -> None:
    second = "  h2: {interfaces: {eth0: {segment: lan, address: 10.0.0.2/24}}}\n"
    for edit in (
        ("cluster: [h1]", "cluster: [h2]"), ("10.0.0.2/24", "10.0.0.3/24"), (second, ""),
    ):  # fmt: skip
        (line,) = changed(edit, base=CLUSTER).refused
        assert "cannot be" in line
        assert "while the lab is up" in line
    more = "  h3: {interfaces: {eth0: {segment: lan, address: 10.0.0.9/24}}}\n  h2:"
    assert not changed(("  h2:", more), base=CLUSTER).refused


def test_a_field_of_the_lab_that_is_not_known_here_is_refused() -> None:
    lab = read(CLUSTER)
    wanted = {**described(lab), ("lab", "schedule"): ["at 5 s"]}
    have = Recorded({**described(lab), ("lab", "schedule"): []})
    (line,) = changes(lab, wanted, have).refused
    assert line == "`schedule` cannot be changed while the lab is up"


def test_wires_come_back_from_their_description() -> None:
    lab = read(BASE)
    back = wired("x", described(lab))
    assert back.segments == lab.segments
    for host, other in zip(lab.hosts, back.hosts, strict=True):
        assert (host.interfaces, host.routes, dict(host.sysctls)) == (
            other.interfaces, other.routes, dict(other.sysctls))  # fmt: skip


def test_a_step_reads_as_the_planners() -> None:
    step = Step(action="delete", what="container web of h1", why="command changed")
    assert str(step) == "- container web of h1 (command changed)"
