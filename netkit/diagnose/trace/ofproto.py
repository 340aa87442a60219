"""Parse the output of ovs-vswitchd.  Pure.  Sources: ovs-vswitchd(8), ovs-actions(7).

    dpif/show      "  obr0:" then "    NAME OFPORT/DATAPATH-PORT: (kind: options)"
    ofproto/trace  entries that matched, what was done, "Datapath actions: ..."

Datapath actions are a list.  After tnl_push or set(tunnel()) outputs belong to the packet in the
packet; clone() keeps such a thing to itself.  After ct() and recirc() the answer goes on with what
follows, and its own "Datapath actions", as if connection tracking took the packet for the first of
a connection; --ct-next says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from netkit.diagnose.trace.facts import Header, Output, Pipeline, Registers

_PORT = re.compile(r"^    (\S+) (\d+)/(\d+|none):", re.M)
_BRIDGE = re.compile(r"^  (\S+):$", re.M)
_ENTRY = re.compile(r"^ *(\d+)\. (.+)$")
_PUSH = re.compile(r"ipv4\(src=([\d.]+),dst=([\d.]+)")
_HOP = re.compile(r"tunneling from \S+ [\d.]+ to \S+ ([\d.]+)$")
_KEY = re.compile(r"(?:\bkey=|\bvni=|tun_id=)(0x[0-9a-f]+)")
_VXLAN = re.compile(r"vxlan\(flags=0x[0-9a-f]+,vni=(0x[0-9a-f]+)\)")
_SET_TUNNEL = re.compile(r"set\(tunnel\((.*)\)\)$")
_OPTION = re.compile(r"class=0x102,type=0x80,len=4,(0x[0-9a-f]+)")  # OVN's: ovn-architecture(7)
_ANSWER = re.compile(r"set\(arp\(sip=[\d.]+,tip=[\d.]+,op=2,sha=([0-9a-f:]{17})")
_FINAL = re.compile(r"^Final flow: (.*)$", re.M)
_COOKIE = re.compile(r"priority (\d+), cookie (0x[0-9a-f]+)")
_ACTIONS = re.compile(r"^Datapath actions: (.*)$", re.M)
_RESUMED = re.compile(r"^recirc\((0x[0-9a-f]+)\) - resume conntrack", re.M)
_NAT = re.compile(r"\bnat(?!\(src\))")  # nat(src) without an address translates nothing
_LOGS = re.compile(r"userspace\(.*\bcontroller\(.*\bcontinuation=0\b")
# For each time that it is tracked: twice on a host, once for each port.
AS_KNOWN = ("--ct-next", "trk,est,rpl") * 4
_TUNNEL_DST = re.compile(r"\bdst=([\d.]+)")


def ports(text: str) -> dict[int, tuple[str, str]]:
    """(bridge, name) by the number in the datapath; of tunnels one number stands for many."""
    out: dict[int, tuple[str, str]] = {}
    bridge = ""
    for line in text.splitlines():
        if found := _BRIDGE.match(line):
            bridge = found[1]
        elif (port := _PORT.match(line)) and port[3] != "none":
            out[int(port[3])] = (bridge, port[1])
    return out


def question(header: Header, port: int) -> str:
    """The flow that ofproto/trace is to be asked about."""
    by = f",tun_id={header.tunnel:#x},tun_metadata0={header.option:#x}" if header.option else ""
    macs = f"in_port={port}{by},dl_src={header.mac_src},dl_dst={header.mac_dst}"
    if header.proto == "arp":
        return (
            f"{macs},arp,arp_op=1,arp_sha={header.mac_src},arp_spa={header.src},"
            f"arp_tpa={header.dst}"
        )
    ends = f"{macs},{header.proto},nw_src={header.src},nw_dst={header.dst},nw_ttl=64"
    if header.proto == "icmp":
        return f"{ends},icmp_type={header.dport},icmp_code=0"
    return f"{ends},{header.proto}_src={header.sport},{header.proto}_dst={header.dport}"


def pipeline(text: str, names: Mapping[int, tuple[str, str]]) -> Pipeline:
    """The answer of ofproto/trace.  What is not understood ends up in `unknown`."""
    rules: list[str] = []
    notes: list[str] = []
    bridge = ""
    for line in text.splitlines():
        if line.startswith("bridge("):
            bridge = line[8:].rstrip('")')
        elif entry := _ENTRY.match(line):
            rules.append(f"{bridge} table {entry[1]}: {entry[2]}")
        elif line.strip().startswith("->"):
            notes.append(line.strip()[2:].strip())
    actions = _joined(text)
    outputs: list[Output] = []
    unknown: list[str] = []
    answer = _ANSWER.search(actions)
    for found in _outputs(actions, names) if answer is None else ():
        if isinstance(found, Output):
            outputs.append(replace(found, gateway=_gateway(notes) if found.source else None))
        else:
            unknown.append(found)
    if not actions:
        unknown.append("no datapath actions in the answer")
    return Pipeline(
        outputs=tuple(outputs),
        rules=tuple(rules),
        notes=tuple(notes),
        unknown=tuple(unknown),
        actions=actions,
        answer=answer[1] if answer else "",
        logical=_registers(text, rules),
        tracked=bool(_RESUMED.search(text)),
    )


def _gateway(notes: list[str]) -> IPv4Address | None:
    """The next hop of all tunnels of an answer, if it is one."""
    hops = {hop[1] for note in notes if (hop := _HOP.search(note))}
    return IPv4Address(hops.pop()) if len(hops) == 1 else None


def either(first: Pipeline, known: Pipeline) -> Pipeline:
    """Of an answer, as connection tracking takes it: the packet of a connection it knows, or not.
    Which of both depends on what tracked the request, and is not followed."""
    if first.outputs == known.outputs:
        return known
    depends = "ct(): of a connection that is tracked it passes, of another it does not"
    if not known.outputs:
        depends = "ct(): of a connection that is tracked it is dropped"
    return replace(
        known, outputs=known.outputs or first.outputs, unknown=(*known.unknown, depends)
    )


def _joined(text: str) -> str:
    """The actions of all passes, but for connection tracking whose outcome is in the next one,
    or that only takes note, and for copies to the controller's log."""
    resumed = set(_RESUMED.findall(text))
    passes: list[str] = []
    for said in _ACTIONS.findall(text):
        every = list(_split(said.strip()))
        if not {a[7:-1] for a in every if a.startswith("recirc(")} <= resumed:
            passes.append(said.strip())  # it goes on where the answer does not
            continue
        does = [a for a in every if not _tracks(a)]
        kept = [a for a in does if not _LOGS.match(a)] or does
        passes.append(",".join(kept) or ("drop" if every else ""))
    return passes[0] if len(passes) == 1 else ",".join(f"clone({p})" for p in passes)


def _tracks(action: str) -> bool:
    return action.startswith("recirc(") or (action.startswith("ct(") and not _NAT.search(action))


def _registers(text: str, rules: list[str]) -> Registers | None:
    """Where OVN keeps switch and ports: ovn-architecture(7), "Logical datapath field" ff."""
    final = _FINAL.findall(text)
    fields = dict(f.split("=", 1) for f in final[-1].split(",") if "=" in f) if final else {}
    if "metadata" not in fields:
        return None
    flows = (_COOKIE.search(rule) for rule in rules)
    return Registers(
        switch=int(fields["metadata"], 0),
        source=int(fields.get("reg14", "0"), 0),
        target=int(fields.get("reg15", "0"), 0),
        flows=tuple((int(f[2], 16), int(f[1])) for f in flows if f),
    )


def _outputs(text: str, names: Mapping[int, tuple[str, str]]) -> Iterator[Output | str]:
    tunnel: Output | None = None
    pushed = False  # by tnl_push: what follows is about the outer packet
    for action in _split(text):
        if action == "drop":
            continue
        if action.startswith("clone("):
            yield from _outputs(action[6:-1], names)
        elif action.startswith("tnl_push("):
            yield _pushed(action) or action
            pushed = True
        elif found := _SET_TUNNEL.match(action):
            tunnel = _tunnel(found[1])
        elif pushed and action.isdecimal():
            continue
        elif action.isdecimal() and tunnel is not None:
            yield tunnel
        elif action.isdecimal() and int(action) in names:
            yield Output(port=names[int(action)][1])
        else:
            yield action


def _pushed(action: str) -> Output | None:
    remote = _PUSH.search(action)
    key = _VXLAN.search(action) or _KEY.search(action)
    if remote is None:
        return None
    return replace(_output(remote[2], key, action), source=IPv4Address(remote[1]))


def _tunnel(text: str) -> Output | None:
    remote, key = _TUNNEL_DST.search(text), _KEY.search(text)
    if remote is None:
        return None
    return _output(remote[1], key, text)


def _output(remote: str, key: re.Match[str] | None, text: str) -> Output:
    option = _OPTION.search(text)
    return Output(
        remote=IPv4Address(remote),
        key=int(key[1], 16) if key else 0,
        option=int(option[1], 16) if option else 0,
    )


def _split(text: str) -> Iterator[str]:
    """By the commas outside of parentheses."""
    depth, start = 0, 0
    for at, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    if text[start:]:
        yield text[start:]
