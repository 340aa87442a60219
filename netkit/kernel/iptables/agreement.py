"""Find out whether iptables-nft reads the rules of `expressions` as the ones it writes itself.

Versions of iptables differ in how they write a rule, and an older one may be unable to list what
a newer one wrote.  So rules are written without the tool only where it takes them for its own:
each form that `expressions` knows is written by both, listed by the tool, and found by it.

To find a rule (-C) it compares as to delete one (-D).  It is not deleted: the end of the process
that deleted one waits for an RCU grace period, and so does the next load of an extension, 10 to
20 ms each.
"""

from __future__ import annotations

from netkit.errors import KernelError
from netkit.kernel.iptables import nft_compat, tools
from netkit.kernel.iptables.expressions import encode
from netkit.kernel.iptables.nft_compat import NETLINK_NETFILTER, NewRule
from netkit.kernel.netlink.codec import Netlink
from netkit.model import HOST

THEIRS, OURS = "nk-probe", "nk-probed"
COMMENT = "netkit:0:probe 0123456789abcdef -1 (web on net)"
# By table: what follows -A CHAIN.  All words that `expressions` knows, and their order.
SAMPLES = {
    "filter": (
        "-i br0 -o br0 -j ACCEPT",
        "! -i br0 -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-d 192.0.2.1/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT"
        " -j DROP",
        "-p udp -m udp --sport 80:89 -j RETURN",
        "! -s 192.0.2.0/24 -d 192.0.0.0/20 ! -o br+ -p icmp -j nk-probe",
        "-i br0 -s 127.0.0.0/8 -j DROP",
        "! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DROP",
    ),
    "nat": (
        "-s 192.0.2.0/24 -d 192.0.2.0/24 -o br0 -m conntrack --ctstate DNAT -j MASQUERADE",
        "-o br0 -m addrtype --src-type LOCAL -j MASQUERADE",
        "-d 192.0.2.1/32 -p tcp -m tcp --dport 80:89 -j DNAT --to-destination 192.0.2.9",
        "-p udp -m udp --dport 80 -j DNAT --to-destination 192.0.2.9:8080",
    ),
}


def disagreement() -> str:
    """Write samples in both ways, in the namespace of this thread; "" if the tool has both alike.

    Call it in a scratch namespace: what it writes stays.  KernelError if the tool cannot be run.
    """
    if why := _restored(f"-A {THEIRS}", made=True):
        return why
    with Netlink(NETLINK_NETFILTER) as netlink:
        for table in SAMPLES:
            try:
                nft_compat.add(netlink, 4, nft_compat.generation(netlink), _by_us(table))
            except KernelError as error:
                return str(error)
    return _listed() or _restored(f"-C {OURS}", made=False)


def _restored(begin: str, *, made: bool) -> str:
    """Have the tool add or find all samples; why it does not."""
    lines: list[str] = []
    for table, samples in SAMPLES.items():
        new = [f"-N {THEIRS}", f"-N {OURS}"] if made else []
        rules = [f'{begin} {s} -m comment --comment "{COMMENT}"' for s in samples]
        lines += [f"*{table}", *new, *rules, "COMMIT"]
    done = tools.run(HOST, ["iptables-nft-restore", "--noflush"], "\n".join([*lines, ""]))
    return tools.complaint(done)


def _listed() -> str:
    """Compare how the tool lists both; "" if alike."""
    done = tools.run(HOST, ["iptables-nft-save"])
    if why := tools.complaint(done):
        return why
    tables = {t.split("\n", 1)[0]: tools.parsed(t) for t in done.stdout.split("\n*")}
    for table, samples in SAMPLES.items():
        rules = tables.get(table, tools.EMPTY).rules
        theirs, ours = ([r.spec for r in rules if r.chain == c] for c in (THEIRS, OURS))
        if len(theirs) != len(samples) or len(ours) != len(samples):
            return f"{len(theirs)} and {len(ours)} of {len(samples)} rules are listed"
        for sample, one, other in zip(samples, theirs, ours, strict=True):
            if one != other:
                return f"this version reads another form of {sample}"
    return ""


def _by_us(table: str) -> list[NewRule]:
    written = [encode(s.split(), COMMENT) for s in SAMPLES[table]]
    return [NewRule(table, OURS, w) for w in written if w is not None]


__all__ = ["disagreement"]
