"""lab.yml: what is understood, what is refused, and in which words."""

from __future__ import annotations

import json
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from netkit.lab import chassis, clustering, populate, schema, weaving
from netkit.lab.checks import Check
from netkit.lab.reading import LabFile, parsed, read
from tests.places import ROOT

CLONE = ROOT
LABS = sorted(p.parent for p in (CLONE / "labs").glob("*/lab.yml"))
GOOD = """
summary: two
underlay: {lan: {mtu: 1400}}
images: {echo: {files: {srv/x: "#!/bin/sh"}, changes: [EXPOSE 7]}}
hosts:
  h1:
    interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}
    routes: [default via 10.0.0.2]
    sysctls: {net.ipv4.ip_forward: 1}
    setup: [ip link add br0 type bridge]
    daemon: [--icc=false]
    networks: {lane: {subnet: 10.9.0.0/24, internal: true, options: {a: true}}}
    containers:
      web: {image: echo, command: "httpd -f -h '/a b'", ports: [80, "8080:80"]}
      db: {networks: {lane: 10.9.0.5, bridge: null}, links: ["web:www"], flags: [--init]}
    firewall: ["iptables -I DOCKER -s {h2} -d {web} -j DROP"]
  h2: {daemon: false, interfaces: {eth0: {segment: lan, address: 10.0.0.2/24}}}
checks: [web <-> db ok, "h2 -> h1:80 blocked"]
"""


def test_a_lab_is_read_into_values() -> None:
    lab = parsed(GOOD, "two")
    h1, h2 = lab.hosts
    assert (lab.segments[0].name, lab.segments[0].mtu) == ("lan", 1400)
    assert h1.interfaces[0].address == IPv4Interface("10.0.0.1/24")
    assert str(h1.routes[0].dst) == "0.0.0.0/0"
    assert h1.sysctls == {"net.ipv4.ip_forward": "1"}
    assert h1.daemon == ("--icc=false",)
    assert h1.images == ("busybox", "echo")
    assert h1.networks[0].flags == ("--subnet=10.9.0.0/24", "--internal", "--opt=a=true")
    web, db = h1.containers
    assert web.command == ("httpd", "-f", "-h", "/a b")
    assert web.ports == ("80", "8080:80")
    assert db.networks == {"lane": "10.9.0.5", "bridge": None}
    assert db.command == ("sleep", "1000000")
    assert (h2.daemon, h2.images) == (None, ())
    assert [(c.source, c.target) for c in lab.checks] == [
        ("web", "db"), ("db", "web"), ("h2", "h1"),
    ]  # fmt: skip


BAD = {
    "unknown key": ("hosts: {h1: {conatiners: {}}}", "did you mean 'containers'?"),
    "unknown key names the line": ("hosts:\n  h1:\n    demon: []\n", "lab.yml:3: hosts.h1.demon:"),
    "unknown key names known ones": ("hostz: {}\nhosts: {h: {}}", "known: checks, cluster, hosts"),
    "cluster without such a host": ("cluster: [h2]\nhosts: {h1: {}}", "no host with a daemon"),
    "ovn on one host twice": (
        "underlay: {l: {}}\novn: [h1, h1]\nhosts:\n"
        "  h1: {interfaces: {e: {segment: l, address: 10.0.0.1/24}}}",
        "lab.yml:2: ovn[1]: 'h1' is listed twice",
    ),
    "global without cluster": (
        "hosts: {h1: {networks: {n: {driver: ovs, scope: global}}}}",
        "scope global needs a `cluster`",
    ),
    "weave peer without weave": (
        "underlay: {l: {}}\nhosts:\n  h1: {weave: [h2]}\n"
        "  h2: {interfaces: {e: {segment: l, address: 10.0.0.1/24}}}",
        "lab.yml:3: hosts.h1.weave[0]: no other host with `weave` and an address is called 'h2'",
    ),
    "unknown engine": ("hosts: {h1: {engine: crio}}", "'crio' does not match"),
    "engine without a netkitd": (
        "hosts: {h1: {daemon: false, engine: docker}}", "engine: needs a daemon"
    ),
    "dockerd has no scope": (
        "cluster: [h1]\nunderlay: {l: {}}\nhosts:\n  h1:\n    engine: docker\n"
        "    interfaces: {e: {segment: l, address: 10.0.0.1/24}}\n"
        "    networks: {n: {driver: netkit-ovs, scope: global}}",
        "lab.yml:7: hosts.h1.networks.n.scope: is for netkit's: give the option netkit.scope",
    ),
    "podman's own network": (
        "hosts: {h1: {engine: podman, containers: {web: {}}}}", "containers.web: lacks `networks`"
    ),
    "a network of netkit's, and more": (
        "hosts: {h1: {engine: podman, networks: "
        "{n: {subnet: 10.9.0.0/24, options: {netkit.network: x}}}}}",
        "networks.n.options: with netkit.network nothing else is to be given",
    ),
    "CNI has no such options": (
        "hosts: {h1: {engine: podman, networks: {n: {ipam_options: {a: b}}}}}", "CNI has none"
    ),
    "an overlay's address": (
        "hosts: {h1: {engine: docker, networks: {n: {driver: netkit-weave}},\n"
        "  containers: {web: {networks: {n: 10.9.0.2/24}}}}}",
        "10.9.0.2/24 has a prefix length, which is for netkit's",
    ),
    "weave's own host": (
        "underlay: {l: {}}\nhosts:\n  h1:\n    weave: [h1]\n"
        "    interfaces: {e: {segment: l, address: 10.0.0.1/24}}",
        "lab.yml:4: hosts.h1.weave[0]: no other host with `weave`",
    ),
    "weave without daemon": (
        "hosts: {h: {daemon: false, weave: []}}", "hosts.h.weave: needs a daemon",
    ),
    "network of no weave": (
        "hosts: {h: {containers: {cc: {networks: [weave]}}}}", "no network on h is called 'weave'",
    ),
    "prefix on a bridge": (
        "hosts: {h: {weave: [], networks: {n: {}}, containers: {cc: {networks: {n: 10.0.0.2/8}}}}}",
        "10.0.0.2/8 has a prefix length, which is for networks of the driver weave",
    ),
    "key twice": ("hosts: {h1: {}}\nhosts: {h2: {}}", "given twice, first in line 1"),
    "wrong kind": ("hosts: {h1: {setup: yes}}", "hosts.h1.setup: must be a list, not True"),
    "no hosts": ("summary: x", "lacks the key 'hosts'"),
    "empty": ("", "must be a mapping, not nothing"),
    "not yaml": ("hosts: [", "not YAML"),
    "host name": ("hosts: {H1: {}}", "does not match"),
    "prefix": (
        "underlay: {l: {}}\nhosts: {h: {interfaces: {e: {segment: l, address: 10.0.0.1}}}}",
        "write 10.0.0.1/24",
    ),
    "segment": (
        "underlay: {lan: {}}\nhosts: {h: {interfaces: {e: {segment: lam}}}}",
        "no segment of `underlay` is called 'lam', did you mean 'lan'?",
    ),
    "name twice": ("hosts: {web: {containers: {web: {}}}}", "the name 'web' is taken"),
    "reserved": ("hosts: {all: {}}", "has a meaning of its own"),
    "image": ("hosts: {h: {containers: {cc: {image: busibox}}}}", "did you mean 'busybox'?"),
    "network": ("hosts: {h: {containers: {cc: {networks: [lane]}}}}", "no network on h is called"),
    "link backwards": (
        "hosts: {h: {containers: {aa: {links: [bb]}, bb: {}}}}", "no container before this one",
    ),
    "no daemon": ("hosts: {h: {daemon: false, containers: {cc: {}}}}", "needs a daemon"),
    "placeholder": ("hosts: {h: {firewall: ['iptables -s {x}']}}", "host or container is called"),
    "check": ("hosts: {h: {}}\nchecks: [h to h]", "checks[0]: 'h to h' is no check"),
    "check's name": ("hosts: {left: {}, right: {}}\nchecks: [left -> wright ok]", "mean 'right'?"),
    "address twice": (
        "underlay: {l: {}}\nhosts:\n  a: {interfaces: {e: {segment: l, address: 10.0.0.1/24}}}\n"
        "  b: {interfaces: {e: {segment: l, address: 10.0.0.1/24}}}",
        "10.0.0.1 is a's on l already",
    ),
    "container name": (
        "hosts:\n  h:\n    containers:\n      a: {}\n",
        "lab.yml:4: hosts.h.containers.a: the name 'a'",
    ),
    "port": ("hosts: {h: {containers: {cc: {ports: ['80808:80']}}}}", "containers.cc.ports[0]: "),
    "subnet": ("hosts: {h: {networks: {n: {subnet: 10.0.0.1/24}}}}", "networks.n.subnet: "),
    "gateway": ("hosts: {h: {networks: {n: {gateway: x}}}}", "networks.n.gateway: "),
    "route": (
        "hosts: {h: {routes: [default via 10.0.0.1]}}", "no interface of h reaches 10.0.0.1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_reported_with_its_place_and_what_to_do(case: str) -> None:
    text, words = BAD[case]
    with pytest.raises(LabFile) as caught:
        parsed(text, "bad")
    assert words in str(caught.value)
    assert str(caught.value).startswith("lab.yml")


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(LabFile) as caught:
        parsed("hosts:\n  h1: {demon: []}\n  h2: {setup: 1}\n", "bad")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("summary: 2020-99-99\nhosts: {h: {}}", "none of the kind it looks like (month must be"),
        ("summary: !!int x\nhosts: {h: {}}", "put it in quotes"),
        ("summary: \ud800\nhosts: {h: {}}", "put it in quotes"),
    ],
)
def test_a_value_that_yaml_takes_for_another_kind_is_reported(text: str, words: str) -> None:
    with pytest.raises(LabFile) as caught:
        parsed(text, "bad")
    assert words in str(caught.value)


def test_a_file_that_is_no_text_or_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab.yml").write_bytes(b"summary: a\nhosts: \xff")
    with pytest.raises(LabFile, match=r"lab\.yml:2: is not text in UTF-8"):
        read(tmp_path)
    monkeypatch.setattr("netkit.lab.document.MAX_BYTES", 5)
    with pytest.raises(LabFile, match="no lab needs as much"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["hosts: &a {h: *a}\n", "summary: &a [*a]\nhosts: {h: {}}\n"])
def test_an_alias_within_itself_is_refused(text: str) -> None:
    with pytest.raises(LabFile, match=r"^lab.yml:1: nested more than 30 levels deep$"):
        parsed(text, "bad")


def test_aliases_of_aliases_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netkit.lab.document.MAX_VALUES", 40)
    text = "hosts: {h: {setup: &a [x, x, x, x, x, x], firewall: *a}}\n"
    assert parsed(text, "good")
    with pytest.raises(LabFile, match="more than 40 values, aliases included"):
        parsed(f"{text}checks: &b [[*a, *a], *a]\nsummary: [*b, *b]\n", "bad")


def test_the_name_of_a_folder_must_do_for_a_namespace() -> None:
    with pytest.raises(LabFile, match="no name for a lab"):
        parsed("hosts: {h: {}}", "My Lab")


def test_a_folder_without_a_lab_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabFile, match=r"give a folder with a lab\.yml"):
        read(tmp_path)


@pytest.mark.parametrize("folder", LABS, ids=lambda p: p.name)
def test_the_labs_of_this_repository_are_sound(folder: Path) -> None:
    lab = read(folder)
    assert lab.checks, "a lab without checks shows nothing"
    assert any(isinstance(c, Check) and not c.negative for c in lab.checks)


# the schema itself


def documents() -> list[Any]:
    """Yield valid and invalid documents: all of the above, and each with one value replaced."""
    texts = [GOOD, *(text for text, _ in BAD.values())]
    texts += [(folder / "lab.yml").read_text() for folder in LABS]
    out = []
    for text in texts:
        try:
            out.append(yaml.safe_load(text))
        except yaml.YAMLError:
            continue
    good = yaml.safe_load(GOOD)
    return [*out, *_spoilt(good)]


def _spoilt(value: Any) -> list[Any]:
    if isinstance(value, dict):
        out = [{**value, "surplus": 1}]
        for key, inner in value.items():
            out += [{**value, key: bad} for bad in (*_spoilt(inner), None, True, 7, "x", [], {})]
        return out
    if isinstance(value, list):
        return [[*value, bad] for bad in (None, True, 7, {}, [])]
    return []


@pytest.mark.slow
def test_the_verdict_is_that_of_jsonschema() -> None:
    judge = jsonschema.Draft202012Validator(schema.lab_schema())
    verdicts = set()
    for document in documents():
        ours = not schema.problems(document, schema.lab_schema())
        assert ours == judge.is_valid(document), json.dumps(document)
        verdicts.add(ours)
    assert verdicts == {True, False}


def problems(text: str) -> list[str]:
    found = schema.problems(yaml.safe_load(text), schema.lab_schema())
    return [f"{schema.dotted(at)}: {why}" for at, why in found]


def test_problems_come_in_the_order_of_the_document_and_each_once() -> None:
    assert problems(
        "summary: 1\nunderlay: {Lan: {}, lan: {mtu: 1.5}, wan: {mtu: 1500.0}, man: {mtu: 7}}\n"
        "hosts:\n  h1: {setup: [''], interfaces: {eth0: {}}}\n  2: {}\nchecks: no\n"
    ) == [
        "summary: must be a text, not 1",
        "underlay.Lan: the name 'Lan' does not match ^[a-z][a-z0-9-]{0,14}$|\\[",
        "underlay.lan.mtu: must be a number, not 1.5",
        "underlay.wan.mtu: must be a number, not 1500.0",
        "underlay.man.mtu: must be between 68 and 65535, not 7",
        "hosts: the key 2 is no text: put it in quotes",
        "hosts.h1.setup[0]: must not be empty",
        "hosts.h1.interfaces.eth0: lacks the key 'segment'",
        "checks: must be a list, not False",
    ]


def _keywords(node: Any) -> set[str]:
    inner = [*node.get("properties", {}).values(), node.get("items"), node.get("propertyNames"),
             node.get("additionalProperties")]  # fmt: skip
    return set(node).union(*(_keywords(each) for each in inner if isinstance(each, dict)))


def test_every_keyword_of_the_schema_has_words_of_ours() -> None:
    structure = {"$schema", "title", "description", "properties", "items", "propertyNames"}
    worded = schema.WORDS.keys() | {"required", "additionalProperties"}
    assert _keywords(schema.lab_schema()) - structure <= worded


def test_a_keyword_without_words_of_ours_is_reported_in_those_of_jsonschema() -> None:
    [(at, why)] = schema.problems({"a": 1}, {"properties": {"a": {"const": "x" * 1000}}})
    assert at == ("a",)
    assert why.startswith("'xxx") and len(why) == schema.MAX_MESSAGE  # noqa: PT018


@pytest.mark.parametrize(
    ("daemon", "kind"), [("[]", "tcp"), ("[--icc=false, --cluster-tls-ca=/ca.pem]", "ssl")]
)
def test_hosts_without_a_server_are_given_the_addresses_of_the_servers(
    daemon: str, kind: str
) -> None:
    lab = parsed(
        "underlay: {lan: {}}\ncluster: [h1]\nhosts:\n"
        "  h1: {interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}}\n"
        f"  h2: {{daemon: {daemon}}}",
        "two",
    )
    h1, h2 = lab.hosts
    assert clustering.flags(lab, h1) == ()
    assert clustering.flags(lab, h2) == (f"--cluster=ovsdb:{kind}:10.0.0.1:6640",)


@pytest.mark.parametrize(
    ("ovs", "has", "segments"),
    [("true", True, True), ("{}", True, True), ("{tso: false}", True, False),
     ("false", False, True)],
)  # fmt: skip
def test_a_hosts_open_vswitch_segments_tcp_unless_it_is_not_to(
    ovs: str, has: bool, segments: bool
) -> None:
    (host,) = parsed(f"hosts: {{h1: {{ovs: {ovs}}}}}", "one").hosts
    assert (host.ovs, host.ovs_tso) == (has, segments)


def test_hosts_with_an_open_vswitch_are_chassis_of_the_labs_ovn() -> None:
    text = """
        underlay: {lan: }
        ovn: [h1]
        hosts:
          h1: {interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}, ovs: true}
          h2: {interfaces: {eth0: {segment: lan, address: 10.0.0.2/24}}, ovs: true}
          h3: {interfaces: {eth0: {segment: lan, address: 10.0.0.3/24}}}
    """
    lab = parsed(text, "demo")
    flags = [chassis.flags(lab, host) for host in lab.hosts]
    servers = ("--ovn-nb=tcp:10.0.0.1:6641", "--ovn-sb=tcp:10.0.0.1:6642")
    assert flags == [
        (*servers, "--ovn-encap-ip=10.0.0.1"), (*servers, "--ovn-encap-ip=10.0.0.2"), (),
    ]  # fmt: skip


def test_the_words_of_weave_launch_have_addresses_for_hosts() -> None:
    lab = parsed(
        "underlay: {left: {}, right: {}}\nhosts:\n"
        "  h1: {weave: [--nickname=a], interfaces: {e: {segment: left, address: 10.1.0.1/24}}}\n"
        "  h2:\n    weave: [--password=secret, h1]\n    interfaces:\n"
        "      e: {segment: left, address: 10.1.0.2/24}\n"
        "      f: {segment: right, address: 10.2.0.2/24}\n"
        "  h3: {weave: [h2, h1], interfaces: {e: {segment: right, address: 10.2.0.3/24}}}\n",
        "three",
    )
    assert [weaving.words(lab, host) for host in lab.hosts] == [
        ["--nickname=a"],
        ["--password=secret", "10.1.0.1"],
        ["10.2.0.2", "10.1.0.1"],
    ]


def test_a_container_may_have_an_address_of_any_subnet_on_weave() -> None:
    lab = parsed(
        "hosts: {h: {weave: [], networks: {lane: {driver: weave}}, containers: {"
        "aa: {networks: {weave: 192.168.1.2/24}}, bb: {networks: {weave: 10.32.0.9, lane: null}},"
        "cc: {networks: {lane: 10.9.0.2/24}}}}}",
        "one",
    )
    found = [populate.argv(c) for _, c in lab.containers()]
    assert "name=weave,driver-opt=netkit.addresses=192.168.1.2/24" in found[0]
    assert "name=weave,ip=10.32.0.9" in found[1]
    assert "lane" in found[1]
    assert "name=lane,driver-opt=netkit.addresses=10.9.0.2/24" in found[2]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.lab_schema())


# the reference


def test_docs_labs_md_describes_every_key_in_the_words_of_the_schema() -> None:
    text = (CLONE / "docs" / "labs.md").read_text()
    for path, description in _described(schema.lab_schema(), ""):
        row = f"| `{path}` | {description} |"
        assert row in text, f"docs/labs.md lacks the line\n{row}"
    section = text.partition("## lab.yml")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    known = {path for path, _ in _described(schema.lab_schema(), "")}
    assert [row for row in rows if row.split("`")[1] not in known] == []


def _described(node: Any, at: str) -> list[tuple[str, str]]:
    out = []
    for key, inner in node.get("properties", {}).items():
        path = f"{at}.{key}" if at else key
        out.append((path, inner["description"]))
        out += _described(inner, path)
        more = inner.get("additionalProperties")
        if isinstance(more, dict):
            out += _described(more, f"{path}.NAME")
    return out


def test_a_container_runs_the_command_of_its_image() -> None:
    lab = parsed(
        "images: {site: {changes: [CMD httpd -f]}, bare: {changes: [EXPOSE 80]}}\n"
        "hosts: {h1: {containers: {web: {image: site}, idle: {image: bare}, "
        "own: {image: site, command: sleep 5}}}}",
        "cmd",
    )
    assert [c.command for c in lab.hosts[0].containers] == [
        (), ("sleep", "1000000"), ("sleep", "5"),
    ]  # fmt: skip
