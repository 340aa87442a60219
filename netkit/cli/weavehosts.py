"""weave attach and detach, expose and hide: containers, and this host, on the overlay."""

from __future__ import annotations

from netkit.cli.commands import Count, at_least, command, complain
from netkit.cli.flags import Options, many, switch
from netkit.cli.weaveaddresses import ADDRESSES, is_ip, looks_like_one, without_lengths
from netkit.cli.weaveflags import CONTAINERS_WITHOUT_EFFECT, WITHOUT_DNS, note
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session
    from netkit.client.engine import Json

NAMES = many("name", "Name of these addresses on the overlay", short="h")


@command(
    "[OPTIONS] [ADDR...] CONTAINER", at_least(1),
    WITHOUT_DNS,
    *(switch(name).replaced(hidden=True) for name in CONTAINERS_WITHOUT_EFFECT),
    more=ADDRESSES,
)  # fmt: skip
def attach(session: Session, options: Options) -> None:
    note(options, CONTAINERS_WITHOUT_EFFECT)
    container, addresses = _container(options)
    body = {
        "Container": container, "Addresses": addresses, "Names": [],
        "WithoutDns": options.flag("without-dns"),
    }  # fmt: skip
    _print(session.engine.post("/netkit/weave/attach", body=body))


@command("[ADDR...] CONTAINER", at_least(1), more=ADDRESSES)
def detach(session: Session, options: Options) -> None:
    container, addresses = _container(options)
    body = {"Container": container, "Addresses": addresses}
    _print(session.engine.post("/netkit/weave/detach", body=body))


@command(
    "[OPTIONS] [ADDR...]", Count(0, None), NAMES,
    switch("without-masquerade", "Let what leaves the overlay here keep its source address"),
    more=ADDRESSES,
)  # fmt: skip
def expose(session: Session, options: Options) -> None:
    body = {
        "Addresses": list(options.args), "Names": options.texts("name"),
        "WithoutMasquerade": options.flag("without-masquerade"),
    }  # fmt: skip
    _print(session.engine.post("/netkit/weave/expose", body=body))


@command("[ADDR...]", Count(0, None), more=ADDRESSES)
def hide(session: Session, options: Options) -> None:
    body = {"Addresses": list(options.args)}
    _print(session.engine.post("/netkit/weave/hide", body=body))


def _container(options: Options) -> tuple[str, list[str]]:
    """Return the container and its addresses: weave has the container last.  Misuse."""
    *addresses, container = options.args
    if not container.strip():
        raise Misuse("invalid container name or ID: value is empty")
    if looks_like_one(container) and not is_ip(container):  # no container can be called so
        raise Misuse(f"no container is given: {container} is an address, and the container is last")
    return container, addresses


def _print(done: Json) -> None:
    for warning in done.get("Warnings") or ():
        complain(f"WARNING: {warning}")
    if done["Addresses"]:
        print(without_lengths(done["Addresses"]))
