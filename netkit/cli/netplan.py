"""network plan, and --dry-run of network create and rm: steps that are shown and not done."""

from __future__ import annotations

from netkit.cli import removing, table
from netkit.cli.commands import at_least, command, complain
from netkit.cli.flags import Options, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session
    from netkit.client.engine import Json

CHANGES = 2  # the exit code where there are steps, as of `terraform plan -detailed-exitcode`


@command(
    "[OPTIONS] [NETWORK...]", at_least(0),
    text("format", "'json', or nothing for text"),
)  # fmt: skip
def plan(session: Session, options: Options) -> int:
    """Exit code 0: nothing is to be done; 2: there are steps."""
    as_json = table.wants_json(options)
    found = session.engine.get("/netkit/networks/plan", {"network": list(options.args)})
    if as_json:
        _json(found)
    else:
        _steps(found)
        if found["Busy"]:
            complain("operations are under way: their networks and containers were left out")
        elif not found["Steps"]:
            print("nothing is to be done")
    return CHANGES if found["Steps"] else 0


def creation(session: Session, body: Json, *, as_json: bool) -> None:
    """What `network create` with this body would do."""
    found = session.engine.post("/netkit/networks/plan/create", body=body)
    if warning := found["Warning"]:
        complain(f"WARNING: {warning}")
    if as_json:
        _json(found)
        return
    pools = "".join(f", subnet {_pool(pool)}" for pool in found["Subnets"])
    print(f"network {found['Network']}, driver {found['Driver']}{pools}, would be created:")
    _steps(found)


def removals(session: Session, options: Options, *, as_json: bool) -> int:
    """What `network rm` would do; the exit code is the one it would have."""

    def one(name: str) -> None:
        found = session.engine.get("/netkit/networks/plan/remove", {"network": name})
        if as_json:
            _json(found)
            return
        print(f"network {found['Network']}, driver {found['Driver']}, would be removed:")
        _steps(found)

    return removing.each(options.args, one, absent=options.flag("force"), done=lambda _name: None)


def _pool(pool: Json) -> str:
    more = (("from", pool["IPRange"]), ("gateway", pool["Gateway"]))
    return " ".join([pool["Subnet"], *(f"{word} {given}" for word, given in more if given)])


def _steps(found: Json) -> None:
    for step in found["Steps"]:
        print(step["Step"])


def _json(found: Json) -> None:
    import json

    print(json.dumps(found, indent=4))
