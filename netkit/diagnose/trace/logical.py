"""Name the logical switch, ports and ACL of a frame on OVN's bridge, and say why it ends there."""

from __future__ import annotations

from collections.abc import Callable

from netkit.diagnose.trace.facts import Observer, Pipeline
from netkit.diagnose.trace.leg import Stop
from netkit.errors import KernelError
from netkit.model.ovn import LogicalPath

Say = Callable[[str, str, str], None]


def follow(found: Pipeline, where: str, observer: Observer, say: Say) -> None:
    """Add the step.  Stop where an ACL or port security drops the frame, or its port is on no
    host."""
    assert found.logical is not None
    try:
        names = observer.logical(found.logical)
    except KernelError as e:
        say(where, "logical", f"names are not known: {e}")
        return
    if not names.switch:
        return
    way = f"{names.source or 'an unknown port'} -> {names.target or 'no port'}"
    does = "rejects it" if names.rejects else "drops it" if names.drops else "lets it pass"
    decided = f", {_decider(names)} {does}" if names.acl else ""
    say(where, "logical", f"logical switch {names.switch}: {way}{decided}")
    if found.outputs:
        return
    if names.guard:
        raise _guarded(names, where)
    if names.acl and names.rejects:
        words = f"{where} rejects it by {_decider(names)}, of port {names.target}"
        raise Stop("fw-reject", words, _cure(names))
    if names.acl and names.drops:
        words = f"{where} drops it by {_decider(names)}, of port {names.target}"
        raise Stop("access-rule", words, _cure(names))
    if names.unbound:
        raise Stop(
            "ovs-drop",
            f"logical port {names.target} is bound to no host: its container, or the "
            "ovn-controller there, does not run",
            f"ovn-sbctl find Port_Binding logical_port={names.target}  # on which chassis?",
        )


def _guarded(names: LogicalPath, where: str) -> Stop:
    by = f"{where} drops it by port security of port {names.guard}"
    see = f"ovn-nbctl lsp-get-port-security {names.guard}  # the MAC and IPv4 address it is to have"
    if names.guards_in:
        return Stop("source-guard", f"{by}: it sends from another MAC or IPv4 address", see)
    return Stop("ovs-drop", f"{by}: the frame is for another MAC or IPv4 address", see)


def _decider(names: LogicalPath) -> str:
    rule = f"rule {names.rule} of netkit fw, " if names.rule else ""
    return f"{rule}ACL {names.acl}"


def _cure(names: LogicalPath) -> str:
    if names.rule:
        return f"netkit fw rm {names.rule}"
    return f"ovn-nbctl acl-list {names.switch}  # the ACL is not netkit's"
