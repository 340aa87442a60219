"""weave dns-add, dns-remove and dns-lookup: names that were added by hand."""

from __future__ import annotations

from netkit.cli.commands import Count, command, exactly
from netkit.cli.flags import Options, text
from netkit.cli.human import printable
from netkit.cli.weaveaddresses import is_ip
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session
    from netkit.client.engine import Json

FLAGS = (
    text("name", "The name, in weave.local; of a container by default its own", short="h"),
    text("network", "Network that the name is of (default weave)"),
)
USAGE = "[OPTIONS] [IP...] [CONTAINER]"
FORMS = (
    "CONTAINER, with some or all of its addresses; or addresses of anything, and -h NAME."
)


@command(USAGE, Count(1, None), *FLAGS, more=FORMS)
def dns_add(session: Session, options: Options) -> None:
    session.engine.post("/netkit/weave/dns/add", body=entry(options))


@command(USAGE, Count(0, None), *FLAGS, more=FORMS)
def dns_remove(session: Session, options: Options) -> None:
    if not options.args and not options.text("name"):
        raise Misuse(f"'{options.path}' requires a container, or -h NAME; see --help")
    session.engine.post("/netkit/weave/dns/remove", body=entry(options))


@command("NAME", exactly(1))
def dns_lookup(session: Session, options: Options) -> None:
    found = session.engine.get("/netkit/weave/dns/lookup", {"name": options.args[0]})
    for line in found.get("Addresses") or found.get("Names") or ():
        print(printable(line).replace(".weave.weave.local", ".weave.local"))  # as it is added


def entry(options: Options) -> Json:
    """Return what a request says of a name.  Misuse."""
    addresses = [word.removeprefix("ip:").partition("/")[0] for word in options.args]
    given = [word for word in addresses if is_ip(word)]
    containers = [w for w, a in zip(options.args, addresses, strict=True) if not is_ip(a)]
    if len(containers) > 1:
        raise Misuse(f"{containers[0]} is no IP address, and only one container can be named")
    name = options.text("name")
    if not containers and not name:
        raise Misuse(f"addresses need a name: {options.path} {' '.join(given)} -h NAME.weave.local")
    return {
        "Addresses": given, "Container": containers[0] if containers else "", "Name": name,
        "Network": options.text("network"),
    }  # fmt: skip
