"""Links of ours that another tool has moved to another namespace, where they keep ours busy.

A VXLAN device holds its number and its port in the namespace where it was made, wherever it is: no
other one can be made there.  A namespace that a link was moved to has a number in the one it comes
from (rtnetlink(7), IFLA_NEW_NETNSID), so it is found without a file, or a process.
"""

from __future__ import annotations

from netkit.kernel.netlink import rtnl
from netkit.kernel.session import Session
from netkit.model import Link


def remove_moved(session: Session, link: Link) -> int:
    """Delete links of its kind with its mark, in all namespaces that its own one knows; how many.

    KernelError: they cannot be listed, or deleted.
    """
    if not link.owner or not link.kind:
        return 0
    netlink, found = session.netlink(link.ns), 0
    for nsid in map(rtnl.seen_nsid, netlink.dump(rtnl.all_nsids())):
        for message in netlink.dump(rtnl.links_in(nsid, link.kind)):
            seen = rtnl.seen_link(message)
            if (seen.kind, seen.alias) == (link.kind, link.owner):
                reply = netlink.run([rtnl.del_link_in(nsid, seen.index)])[0]
                reply.check(f"delete {seen.name} in the namespace that it was moved to")
                found += 1
    return found
