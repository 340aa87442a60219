"""docs/firewall.md, made from live rule sets: what is in the kernel, and what it is for.

Interfaces, ids and comments are given names of networks and containers, so that the page is the
same each time.  After the first situation only what a situation adds is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from netkit.diagnose.explain.answer import explain
from netkit.diagnose.explain.question import question
from netkit.diagnose.explain.words import text
from tests.reach.situations import Situation
from tests.reach.town import Town

Blocks = dict[str, list[str]]  # lines by the chain, set or map that they belong to
MARK = re.compile(r'"netkit:0:([0-9a-z]+)(?::([0-9a-f]{12}))?(?: [^"]*)?"')
COUNTED = re.compile(r"counter packets \d+ bytes \d+")

HEAD = """# The firewall, rule by rule

Made from live rules by `tests/netns/test_firewall_doc.py`, which fails when this page is not what
the kernel says. To make it anew:

    NETKIT_UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/netns/test_firewall_doc.py

Each situation is shown as `iptables -S` prints it (`--firewall-backend iptables`; either variant
has the same rules) and as `nft list table ip netkit` does (`--firewall-backend nftables`). After
the first, only what is added is shown: to docker0, or, from the third on, to a plain network `one`.
Names stand for what is different on every host: `br-one` for the bridge of network `one`,
`mac-of-web` for the MAC address of container `web` on it; in comments, `one/web` for its mark,
which is `netkit:ENGINE:NETWORK:ENDPOINT DIGEST RANK (web on one)`: ids, a hash of the rule, its
place in the chain, and, in iptables, names as of when the rule was made, for you.

To ask which rule decides about a packet, on the rules as they are:
`netkit fw explain SRC DST PORT`.

## When another tool flushes the rules

`nft flush ruleset`, `iptables -F`, a firewall that restarts: the daemon is notified (legacy tables
it reads ten times a second) and puts its rules back, in some tenths of a second and at most two. No
rule of ours can hold in between, for every table was deleted. Until then

- published ports do not answer, and containers do not reach the world (nothing is translated);
  flows that are under way go on;
- hosts that can route to the containers' subnet through this host reach every port of theirs, and
  so do containers of other networks, internal ones included;
- what `netkit fw drop` forbids is let through;
- a container that sends to 127.0.0.1 by way of its gateway reaches the host's services there;
- neighbours of a network with icc=false stay apart on their bridge, for that is a flag of its ports
  and no rule. By a detour over the host they reach each other, each with its own MAC address.

Where that is too much, protect containers where no flush of this host's rules reaches: do not
route to the containers' subnets elsewhere, and let services on 127.0.0.1 authenticate clients.

## When rules come back without their comments

netkit knows its rules by their comments. `nft list ruleset >f; nft flush ruleset; nft -f f`, which
is what `nftables.service` does, loses those that iptables wrote, and so do other tools that save
and restore. Where nft kept the comment it may have put its own words in the place of an
extension's (`ct state` for `-m conntrack`), and iptables cannot list the table any more ("table
`filter' is incompatible, use 'nft' tool"): such a rule counts as one without a comment. netkit adds
its rules again; the copies without a comment are removed, at once and at each start, logged with
their text, and shown by `netkit fw check`:

- In chains of netkit's alone (`DOCKER-ACCESS`, `DOCKER-BRIDGE`, `DOCKER-CT`, `DOCKER-FORWARD`,
  `DOCKER-INTERNAL`, `DOCKER-LOCAL`, `DOCKER-<endpoint>-...`) whatever has no comment of netkit's
  is deleted, except rules about interfaces of another engine with chains of the same names.
- In `DOCKER`, which is open to you, four kinds are deleted: copies of a rule of netkit's there;
  rules that name the bridge of a removed network (`br-` and 12 digits); rules that let translated
  packets in as only netkit writes them (`! -i BRIDGE -o BRIDGE ... --ctstate DNAT -j ACCEPT`); and
  translations to the address, protocol and port that such a rule let in.
- In the built-in chains (`FORWARD`, those of `nat` and `raw`) two kinds are deleted: copies of
  a rule of netkit's there, and rules that name the bridge of a removed network and are otherwise a
  rule of netkit's. Every other rule is yours, and stays where it is.
- `DOCKER-USER`, and chains that you made, are never looked at.
- In netkit's own tables of nftables (`ip netkit`, `bridge netkit`) nothing of another tool belongs:
  rules, chains, sets and elements without netkit's comment are deleted. So are members that another
  tool puts into a list of addresses (ipset) of netkit's, and sets with names like those (`nks-` and
  12 digits) that have no mark and that no rule refers to. The kernel announces no change of an
  ipset: these are found within ten seconds.

Until then `netkit fw show` lists them apart from those of other tools.

As long as rules restored by nft stand in a table, `iptables -S` may refuse it as "incompatible".

## When a row of the database cannot be read

netkit keeps networks, endpoints and access rules in a database. Where a row cannot be decoded (a
damaged disk, a newer netkit before this one), or a network's driver is missing or refuses it now,
netkit does not know whether a rule in the kernel is the one that blocks. So nothing is removed or
replaced of

- that network: its bridge, links, rules, subnet and addresses;
- that endpoint, the endpoints of that sandbox (a container's network), those beside them on the
  same network, which may be linked to them, and of containers with an access rule whose source is
  one of them;
- the container that the access rule is about.

That holds for repairs, the daemon's start and `netkit fw repair`. `netkit fw check` names each such
row, says what to do, and exits with 1; once you have removed the rule (`netkit fw rm`), the network
(`netkit net rm`) or the container, what the kernel has of it goes at once. A rule that another tool
removes meanwhile comes back only if it can be read, or if the daemon has not started anew since. A
container is not started while an access rule about it cannot be read.

## What commits to the tables

`netkit info` says it, below `Firewall Backend`, as `Committed by`.

- **nf_tables, `--firewall-backend nftables`**: `nft`, one transaction for each change.
- **nf_tables, `--firewall-backend iptables`**: netkitd itself, by netlink, rules of common forms,
  which iptables lists, finds (`-C`) and deletes (`-D`) as those that it writes: all of a change in
  one transaction, which takes 0.3 ms instead of 2. It tries that at its start with the installed
  version; where it is not so, `netkit info` shows it (`Without rules by netlink`). All else, such
  as chains, more than 64 rules, matches of MAC addresses or sets, is committed by
  `iptables-nft-restore`; of that, the rules that each packet of a flow passes are then written once
  more by netkitd. It writes two things in another way than iptables 1.8.9: addresses are compared
  before interfaces, as by iptables 1.8.11, and a comment of at most 128 characters stands beside
  the rule (user data, as nft has it), where iptables has a match that the kernel calls for each
  packet. `iptables -S`, `iptables-save`, `nft list` show it all the same. `iptables-restore` of
  what `iptables-save` printed writes it as a match again: that holds as before, and takes the
  kernel longer. python-iptables cannot: it binds libiptc, which knows legacy tables only, and to
  open one there would create it.
- **legacy tables**: python-iptables 1.2.0, for a change of at most 64 lines. No process has to be
  started for it: a rule takes 1.3 ms instead of 2.0. Here `iptables-legacy-restore` commits
  instead, and nothing was touched before it is asked:
  - more than 64 lines, for each rule costs python-iptables 0.5 ms, and the tool 0.01 ms;
  - what python-iptables has no words for: an extension it lacks, several addresses in one rule;
  - iptables 1.8.11 and later, with which python-iptables 1.2.0 crashes (its issue 353);
  - python-iptables crashed, hung or could not be started: until the next start of netkitd. The log
    says why, and so does `Committed by`. Where it may have committed before, netkit looks first.

python-iptables runs in a process of its own, in one thread, without autocommit, and under the lock
of the iptables tools (`/run/xtables.lock`). By itself it takes no lock, crashes where threads use
it, and with autocommit it lost 58 of 600 rules of concurrent writers without an error. After each
commit netkit looks whether the kernel has the rules.

## Where a rule of another tool comes first

The kernel translates a flow once. A rule of another tool in `nat PREROUTING` before netkit's jump
that ends the chain (`ACCEPT`, `RETURN`) or translates elsewhere (`REDIRECT`, `DNAT`), or one in
`raw` that keeps the flow from being tracked, hides a published port: packets do not reach the
container. It is not netkit's to remove, for it may be meant (a VPN, a proxy in front): `netkit fw
repair` and the automatic repair leave it. But a port that is published and not reached is not as it
should be: `netkit fw check` lists each such rule with the command that removes it, and exits with
1. `fw explain` and `net trace` name the rule where it decides about their packet.

It is looked for by protocol, port and address of the host; other conditions (source, interface) are
left to you, hence "may take". A rule that names no port and is only about some sources or
interfaces is not listed, nor is one that leads to the container that the port is published for.

The same goes for `netkit fw drop` where a bridge does not show its frames to rules any more
(`nf_call_iptables` and `net.bridge.bridge-nf-call-iptables` are off): `fw ls` and `fw show` say
where the rule does not hold, `fw check` gives the command that switches it on.

## What an address proves

On a network with icc=false, who a neighbour is (see [icc=false and a link](#iccfalse-and-a-link)).
Elsewhere, with icc, nothing: there containers send from any address to each other and, as on any
Ethernet, to the host. The limits:

- A container on a network with icc=false that gives itself another MAC address, or has more
  behind it (a bridge, macvlan), cannot send from those. Start it with `--mac-address`.
- A rule with an address (`netkit fw accept --src 172.20.1.3`) is about the IP address, from
  whatever container it is used. One with a container's name (`--src mate`) is about that container
  where it is a neighbour on a network with icc=false; where it is not, about its IP addresses.
- On a bridge of the administrator's (`-b br0`, or a name that was there already) ports that are not
  ours stay open: hosts behind one can send from the addresses of a container that is let through,
  to where that is let. They cannot take over a container's MAC address: answers still go to the
  container. On a bridge that was given its name, the host goes on asking by ARP.
- Linux before 5.18 has no locked ports, and passes over the flag (`netkit info`, below
  `Firewall Backend`: `Without locked ports`). There packets of a neighbour that forges IP and MAC
  address arrive where the real one's would, but it gets no answer.
"""


def iptables_blocks(t: Town) -> Blocks:
    """Return `iptables -S` of the tables that we write to, by table."""
    names = _names(t)
    out: Blocks = {}
    for table in ("filter", "nat", "raw"):
        output = t.lab.run("iptables-nft", "-t", table, "-S")
        out[f"iptables -t {table} -S"] = [_named(line, names) for line in output.splitlines()]
    return out


def nft_blocks(t: Town) -> Blocks:
    """Return the native table, by set, map and chain; elements one a line, sorted."""
    names, out, here = _names(t), Blocks(), "table"
    output = t.lab.run("nft", "list", "table", "ip", "netkit")
    for line in _joined(output.splitlines()):
        bare = line.strip()
        if bare.endswith("{"):
            here = bare.removesuffix("{").strip()
            out[here] = []
        elif bare.startswith("elements = {"):
            inside = bare.removeprefix("elements = {").removesuffix("}")
            out[here] += sorted(_named(e.strip(), names) for e in _split(inside))
        elif bare not in {"}", ""} and not bare.startswith("comment"):  # of the set, of the chain
            out[here].append(_named(bare, names))
    return {_named(k, names): v for k, v in out.items()}


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Join the lines of a set's elements."""
    held = ""
    for line in lines:
        held = f"{held} {line.strip()}" if held else line
        if "elements = {" in held and not held.rstrip().endswith("}"):
            continue
        yield held
        held = ""


def _split(elements: str) -> list[str]:
    return [e for e in re.split(r",\s*(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", elements) if e.strip()]


def _names(t: Town) -> Mapping[str, str]:
    """Map what differs in each run to its name on the page."""
    out: dict[str, str] = {}
    for n in t.net.all():
        out[n.id[:12]] = n.spec.name
    for e in t.net.endpoints():
        out[e.id[:12]] = e.owner_name
        out[e.mac] = f"mac-of-{e.owner_name}"
    return out


def _named(line: str, names: Mapping[str, str]) -> str:
    def mark(found: re.Match[str]) -> str:
        who = "/".join(names.get(g, g) for g in found.groups() if g)
        return f'"{who}"'

    line = COUNTED.sub("counter", MARK.sub(mark, line))
    for id, name in names.items():
        line = line.replace(id, name)
    return line


def added(now: Blocks, before: Blocks) -> Blocks:
    """Return the lines that were not there before."""
    out: Blocks = {}
    for name, lines in now.items():
        old = list(before.get(name, ()))
        new = [line for line in lines if not _taken(old, line)]
        if new:
            out[name] = new
    return out


def _taken(old: list[str], line: str) -> bool:
    if line not in old:
        return False
    old.remove(line)
    return True


def answers(t: Town, s: Situation) -> list[str]:
    """Return the verdict and the rule of `netkit fw explain`."""
    names, out = _names(t), list[str]()
    facts = t.facts()
    for source, target, port in s.asked:
        explanation = text(explain(question(source, target, port), facts)).splitlines()
        out.append(f"$ netkit fw explain {source} {target} {port}")
        out += [_named(line, names) for line in explanation[1:3] if not line.startswith("the ")]
    return out


def page(parts: Iterable[tuple[Situation, Blocks, Blocks, Sequence[str]]]) -> str:
    out = [HEAD]
    for s, tables, native, explanation in parts:
        out.append(f"## {s.title}\n\n{s.words.strip()}\n")
        for name, lines in tables.items():
            out.append(_fenced(f"# {name}", lines))
        if native:
            shown = [line for name, lines in native.items() for line in _block(name, lines)]
            out.append(_fenced("# nft list table ip netkit", shown))
        if explanation:
            out.append(_fenced("", explanation))
    return "\n".join(out)


def _block(name: str, lines: Sequence[str]) -> Iterator[str]:
    yield f"{name} {{"
    yield from (f"    {line}" for line in lines)
    yield "}"


def _fenced(head: str, lines: Sequence[str]) -> str:
    return "\n".join(["```", *([head] if head else []), *lines, "```", ""])
