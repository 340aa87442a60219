"""netkit lab import: what becomes of whole files, what is refused, and the exit statuses."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
import yaml

from netkit.cli import app
from netkit.lab import document, reading
from netkit.lab.document import LabFile
from netkit.lab.foreign import compose, containerlab, draft, kathara, shell, variables
from netkit.lab.foreign.reading import MAX_ENTRIES, MAX_FILES, read
from netkit.lab.ranges import MAX_MEMBERS
from tests.places import ROOT

CLAB = """
topology:
  kinds: {linux: {exec: [ip link set eth1 mtu 1300]}}
  groups: {pc: {exec: [ip route add default via 10.0.0.1]}}
  defaults: {kind: linux}
  nodes:
    sw: {kind: bridge}
    r1: {exec: [ip addr add 10.0.0.1/24 dev eth1]}
    PC-one: {group: pc, exec: [ip addr add 10.0.0.2/24 dev eth1, "echo __clabNodeName__"]}
    veth: {kind: host}
  links:
    - {endpoints: [sw:p1, r1:eth1], mtu: 1400}
    - endpoints: [sw:p2, PC-one:eth1]
    - endpoints: [r1:ethernet-1/1, PC-one:eth2]
      ipv4: [10.9.0.1/30, 10.9.0.2/30]
    - {type: veth, endpoints: [{node: r1, interface: eth2, mac: 02:00:00:00:00:01, ipv4: 10.8.0.1/24},
                               {node: PC-one, interface: eth3}]}
    - endpoints: [r1:eth9, veth:x]
    - endpoints: [r1:eth8, host:x]
    - endpoints: [r1:eth7, nobody:x]
"""  # noqa: E501
CONF = """
LAB_DESCRIPTION="A \\"lab\\"" # with a comment
# comment
r1[0]="A"
r1[1]=B/02:00:00:00:00:11
pc1[0]='A'
pc1[exec]="ip route add default via 10.0.0.1"
pc1[sysctl]="net.ipv4.ip_forward=1"
pc1[2]=tap,10.0.0.1,10.0.0.2
"""


def lab_of(made: draft.Draft) -> reading.Lab:
    return reading.parsed(made.text(), "imported")


def test_a_topology_of_containerlab_becomes_hosts_and_segments() -> None:
    made = containerlab.read(CLAB, "x.clab.yml")
    lab = lab_of(made)
    assert {s.name: s.mtu for s in lab.segments} == {
        "sw": 1400, "r1-pc-one": None, "r1-pc-one-2": None,
    }  # fmt: skip
    r1, pc = lab.hosts
    assert [(i.name, i.segment, str(i.address)) for i in r1.interfaces] == [
        ("eth1", "sw", "10.0.0.1/24"), ("ethernet.1.1", "r1-pc-one", "10.9.0.1/30"),
        ("eth2", "r1-pc-one-2", "10.8.0.1/24"),
    ]  # fmt: skip
    assert (pc.name, [str(r.gateway) for r in pc.routes]) == ("pc_one", ["10.0.0.1"])
    assert r1.interfaces[2].mac == "02:00:00:00:00:01"
    assert [h.setup for h in lab.hosts] == [("ip link set eth1 mtu 1300",)] * 2
    assert [str(c) for c in lab.checks] == [
        "r1 -> pc_one@eth1 icmp ok",
        "r1 -> pc_one@eth2 icmp ok",
    ]
    left = "\n".join(made.omitted)
    assert "x.clab.yml:9: topology.nodes.PC-one.exec[1]: echo PC-one: only commands" in left
    assert "topology.nodes.veth: kind host: a lab does not touch what is outside" in left
    assert "links[4].endpoints[1]: veth: leads out of the lab" in left
    assert "links[5].endpoints[1]: host: leads out of the lab" in left
    assert "links[6].endpoints[1]: nobody: names no node" in left
    assert "x.clab.yml:9: topology.nodes.PC-one: is called pc_one here" in "\n".join(made.changed)


def test_what_the_lab_of_this_repository_was_made_of_makes_it_again() -> None:
    folder = ROOT / "labs" / "imported-clab"
    made = read(str(folder / "routed.clab.yml")).text()
    text = (folder / "lab.yml").read_text()
    assert text.startswith(made)
    assert [line for line in text[len(made) :].splitlines() if "by hand" not in line] == []


def test_a_folder_of_kathara_becomes_hosts_and_segments() -> None:
    scripts = {
        "lab.conf": CONF, "lab.dep": "pc1: r1\n", "lab.ext": "A eth1\n", "r1.shutdown": "x\n",
        "shared.startup": "#!/bin/sh\nip link set eth0 mtu 1400\n",
        "r1.startup": "ip address add 10.0.0.1/24 dev eth0\nsystemctl start frr\n",
        "pc1.startup": "for i in 1; do ip addr add 10.7.0.1/24 dev eth0; done\n"
                       "f() {\n ip addr add 10.8.0.1/24 dev eth0\n}\n"
                       "cat > /etc/x <<END\nip addr add 10.9.0.1/24 dev eth0\nEND\n",
        "other.startup": "",
    }  # fmt: skip
    made = kathara.read(scripts, ["r1/", "shared/"], "k")
    lab = lab_of(made)
    assert lab.summary == 'A "lab"'
    r1, pc1 = lab.hosts
    assert [(i.name, i.segment, i.mac) for i in r1.interfaces] == [
        ("eth0", "a", None), ("eth1", "b", "02:00:00:00:00:11"),
    ]  # fmt: skip
    assert str(r1.interfaces[0].address) == "10.0.0.1/24"
    assert [i.address for i in pc1.interfaces] == [None]
    assert pc1.sysctls == {"net.ipv4.ip_forward": "1"}
    assert [h.setup for h in lab.hosts] == [("ip link set eth0 mtu 1400",)] * 2
    left = "\n".join(made.omitted)
    for words in ("pc1[2]=tap,", "lab.dep:1: pc1: r1", "lab.ext:1: A eth1", "r1.shutdown: nothing",
                  "r1.startup:2: systemctl start frr", "pc1.startup:1: for i in 1;",
                  "pc1.startup:3: ip addr add 10.8", "pc1.startup:6: ip addr add 10.9",
                  "other.startup: no device", "r1/: hosts here have", "shared/: hosts here",
                  "no interface of pc1 reaches 10.0.0.1"):  # fmt: skip
        assert words in left, words


SERVICES = """
x-all: &all {image: busybox:1.36, restart: always}
services:
  web:
    <<: [*all]
    command: httpd -f -h "/a b"
    ports: ["22:22", {target: 81, published: 8081, host_ip: 127.0.0.1, protocol: udp, mode: host}]
    depends_on: {data-base: {condition: service_healthy, restart: true}}
    networks: {front: {ipv4_address: 10.9.0.5, aliases: [www]}, back: }
    environment: {A: "${X:-y}$$", B: , C: "${GIVEN}", D: "${LOST}"}
    volumes: [data:/d:ro, /anon, "./x:/x", {type: bind, source: data, target: /y}]
  data-base: {image: "postgres:16", command: postgres, user: pg, networks: [back, default]}
  again:
    {image: debian:bookworm-slim, depends_on: [web], networks: {front: {ipv4_address: 10.9.0.5}}}
networks:
  front: {ipam: {config: [{subnet: 10.9.0.0/24}, {subnet: "fd00::/64"}]}}
  back: {internal: yes}
volumes: {data: {driver_opts: {o: bind, device: /etc}}}
"""


def test_a_compose_file_becomes_a_host_with_an_engine() -> None:
    made = compose.read(SERVICES, "compose.yaml", {"GIVEN": "from .env"})
    [h1] = lab_of(made).hosts
    assert [c.name for c in h1.containers] == ["data_base", "web", "again"], "by depends_on"
    base, web, again = h1.containers
    assert web.networks == {"front": "10.9.0.5", "back": None}
    assert again.networks == {"front": None}
    assert base.networks == {"back": None, "default_net": None}
    assert web.command == ("httpd", "-f", "-h", "/a b")
    assert web.ports == ("22:22", "127.0.0.1:8081:81/udp")
    assert web.flags == (
        "--network-alias=www", "--volume=data:/d:ro", "--volume=/anon", "--restart=always",
        "--env=A=y$", "--env=C=from .env", "--env=D=",
    )  # fmt: skip
    assert base.flags == ("--network-alias=data-base",)
    assert (base.image, base.command) == ("postgres:16", ("sleep", "1000000"))
    left = "\n".join(made.omitted)
    for words in ("ports[1].mode", "data-base: service_healthy: a container is", "restart = True",
                  "environment[1]: B: ", "LOST has no value", "volumes[2]: files of this",
                  "volumes[3]: files of this", "again.networks.front.ipv4_address: 10.9.0.5 is t",
                  "config[1]: IPv6", "back.internal: yes is neither", "data.driver_opts: they",
                  "x-all: an extension", "data-base.user: the image that has the user",
                  "data-base.command: the image"):  # fmt: skip
        assert words in left, words


REFUSED = {
    "x: 1": "f: is neither a topology of containerlab nor a compose file nor a lab.conf",
    "topology: {nodes: {}}": "there are no nodes",
    "topology: [1]": "topology: must be a mapping",
    "topology: {nodes: [a]}": "topology.nodes: must be a mapping",
    "topology: {nodes: {a: 1}}": "nodes.a: must be a mapping",
    "topology: {nodes: {a: {}}, links: [{endpoints: [a]}]}": "needs two endpoints",
    "topology: {nodes: {a: {exec: x}}}": "nodes.a.exec: must be a list",
    "topology:\n  nodes: {a: {}, a: {}}": "f:2: topology.nodes.a is given twice",
    "topology: {nodes: {a: *x}}": "not YAML",
    "topology: &a {nodes: *a}": "nested more than 30 levels deep",
    "topology: {nodes: {? [a] : b}}": "a key must be text",
    "topology: {nodes: {a: {<<: 1}}}": "<< takes mappings only",
    "topology: {name: '{{ .x }}'}": "is a Go template",
    "topology: {nodes: {a: {kind: bridge}}}": "none of its nodes becomes a host",
    "services: {}": "there are no services",
    "services: {a: {depends_on: [b]}, b: {depends_on: [a]}}": "wait for each other: a, b",
    'services: {a: {image: busybox, command: "x \'y"}}': "close the quotes",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    with pytest.raises(LabFile) as caught:
        read(str(tmp_path / "f"))
    assert REFUSED[text] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


ODD = (
    "topology: {nodes: {a: {kind: [x], group: {}}, b: }, links: [{type: [], endpoints: [a:x]}]}",
    "topology: {nodes: {a: {exec: [[x], {}]}}}", "topology: {nodes: {a: {sysctls: {a: []}}}}",
    "services: {n: {image: []}}", "services: {1a: , n: {depends_on: {n2: {condition: [x]}}}, n2: }",
    "services: {aa: {networks: [{}], links: , cap_add: 5, environment: [[]]}}",
    "services: {aa: {networks: {nn: 5}}}\nnetworks: {nn: {internal: {}}}",
    "services: {aa: {volumes: [{type: [], target: }], ports: [[]]}}\nvolumes: {v: 5}",
)  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_values_of_another_kind_are_listed_or_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    try:
        made = read(str(tmp_path / "f"))
    except LabFile as wrong:
        assert str(wrong).startswith("f:1: ")  # noqa: PT017
    else:
        assert lab_of(made).hosts
        assert made.omitted


def test_an_address_that_is_taken_is_left_out_and_so_are_routes_over_it() -> None:
    made = containerlab.read(
        "topology:\n  nodes:\n    a: {exec: [ip a a 10.0.0.1/24 dev eth1]}\n    b:\n      exec:\n"
        "        - ip a a 10.0.0.1/24 dev eth1\n        - ip r a default via 10.0.0.9\n"
        "  links: [endpoints: [a:eth1, b:eth1]]", "f",
    )  # fmt: skip
    a, b = lab_of(made).hosts
    assert (str(a.interfaces[0].address), b.interfaces[0].address) == ("10.0.0.1/24", None)
    left = "\n".join(made.omitted)
    assert "10.0.0.1/24 of b eth1: is a's on the same segment already" in left
    assert "f:7: topology.nodes.b.exec[1]: ip r a default via 10.0.0.9: no interface of b" in left


def test_docs_have_the_bounds() -> None:
    text = " ".join((ROOT / "docs" / "lab-import.md").read_text().split())
    for words in (f"at most {document.MAX_BYTES >> 20} MiB, {document.MAX_DEPTH} levels",
                  f"{document.MAX_VALUES:,} values", f"{MAX_MEMBERS:,} nodes",
                  f"{draft.MAX_SEGMENTS:,} segments", f"{draft.MAX_COMMANDS:,} commands",
                  f"{containerlab.MAX_INTERFACES} interfaces and addresses of a node",
                  f"({kathara.MAX_INTERFACES} interfaces in Kathara)", f"{MAX_FILES:,} files",
                  f"{MAX_ENTRIES:,} entries of a folder"):  # fmt: skip
        assert words in text, words
    assert containerlab.MAX_INTERFACES == shell.MAX_ADDRESSES
    assert "| 3 | with `--strict`" in text


@pytest.mark.parametrize("line", ["r1", "r1[0]=", "r1[100]=A", "r1[0]='A", "r1[0]=A\nr1[0]=B"])
def test_a_line_that_is_none_of_lab_conf_is_refused(line: str) -> None:
    with pytest.raises(LabFile, match=r"^lab\.conf:\d"):
        kathara.read({"lab.conf": line}, [], "k")


def test_counts_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = "".join(f"    a{n}: {{}}\n" for n in range(1000))
    with pytest.raises(LabFile, match="more than 1000 names"):
        containerlab.read(f"topology:\n  nodes:\n{nodes}", "f")
    monkeypatch.setattr(draft, "MAX_COMMANDS", 3)
    with pytest.raises(LabFile, match="more than 3 commands, of all nodes"):
        containerlab.read("topology: {defaults: {exec: [a, b]}, nodes: {a: {}, b: {}}}", "f")
    monkeypatch.setattr(containerlab, "MAX_INTERFACES", 1)
    with pytest.raises(LabFile, match="more than 1 interfaces"):
        containerlab.read(CLAB, "f")
    monkeypatch.setattr(draft, "MAX_SEGMENTS", 1)
    with pytest.raises(LabFile, match="more than 1 links"):
        kathara.read({"lab.conf": CONF}, [], "k")
    monkeypatch.setattr(variables, "MAX_BYTES", 10)
    with pytest.raises(LabFile, match="values of variables have more"):
        compose.read("services: {a: {image: '${X}${X}'}}", "f", {"X": "abcdef"})


def test_files_are_read_within_bounds_and_links_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("services: {a: {image: busybox}}")
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "compose.yaml").symlink_to(secret)
    for path in (lab, lab / "compose.yaml"):
        with pytest.raises(LabFile, match=r"symbolic link, which is not followed|has none"):
            read(str(path))
    os.unlink(lab / "compose.yaml")
    os.mkfifo(lab / "compose.yaml")
    with pytest.raises(LabFile, match="is no plain file"):
        read(str(lab / "compose.yaml"))
    with pytest.raises(LabFile, match="no such file"):
        read(str(lab / "none"))
    (lab / "lab.conf").write_text("r1[0]=A")
    (lab / "r1.startup").symlink_to(secret)
    made = read(str(lab))
    assert "r1.startup: hosts here have the files of this machine" in made.omitted
    monkeypatch.setattr(document, "MAX_BYTES", 5)
    with pytest.raises(LabFile, match="no lab needs as much"):
        read(str(secret))


def test_nothing_of_a_file_leaves_its_comment_or_reaches_a_terminal() -> None:
    text = 'topology: {nodes: {"a\\nhosts: {}\\u2028\\e[2J\\x85": {exec: ["x\\n\\ry"]}}}'
    made = containerlab.read(text, "f\nhosts: 1")
    head = made.text().partition("\nhosts:")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "\x1b" not in made.text()
    assert list(yaml.safe_load(made.text())["hosts"]) == ["a_hosts"]


def test_a_file_decides_nothing_but_names_and_addresses_of_a_nodes_commands() -> None:
    evil = ["rm -rf /", "sh -c 'ip link set eth1 up && reboot'", "ip netns exec x reboot"]
    made = containerlab.read(
        yaml.safe_dump({"topology": {"nodes": {"a": {"exec": evil, "binds": ["/etc:/etc"]}}}}), "f"
    )
    assert made.document()["hosts"] == {"a": {"daemon": False}}
    assert len(made.omitted) == 5


def run(*argv: str) -> int:
    return app.run(["lab", "import", *argv])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "x.clab.yml", tmp_path / "made"
    source.write_text(textwrap.dedent(CLAB))
    assert run("-o", str(out), str(source)) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{out}/lab.yml: 2 hosts, 2 checks, 5 left out\n"
    assert "not carried over: x.clab.yml:9: topology.nodes.PC-one.exec[1]: echo" in shown.err
    assert "changed: x.clab.yml:9: topology.nodes.PC-one: is called pc_one here" in shown.err
    assert [p.name for p in out.iterdir()] == ["lab.yml"]
    assert run(str(source)) == 0
    assert capsys.readouterr().out == (out / "lab.yml").read_text()
    assert run("-o", str(out), str(source)) == 1
    assert "has a lab.yml already" in capsys.readouterr().err
    assert run("--strict", "-o", str(tmp_path / "strict"), str(source)) == 3
    assert not (tmp_path / "strict").exists()
    assert run("-o", str(tmp_path / "No Name"), str(source)) == 1
    assert "is no name for a lab" in capsys.readouterr().err
    assert run(str(tmp_path)) == 0, "a folder with one topology"
    (tmp_path / "compose.yml").write_text("services: {aa: {image: busybox}}")
    assert run(str(tmp_path)) == 1
    assert "compose.yml, x.clab.yml: give one of them" in capsys.readouterr().err
    assert run("--strict", str(tmp_path / "compose.yml")) == 0
