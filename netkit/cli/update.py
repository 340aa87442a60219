"""update: other limits and another restart policy for containers."""

from __future__ import annotations

from netkit.cli import createbody, createflags, values
from netkit.cli.commands import at_least, command, complain
from netkit.cli.flags import text
from netkit.cli.life import CONTAINERS, each
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.flags import Options
    from netkit.cli.session import Session


@command(
    f"[OPTIONS] {CONTAINERS}", at_least(1),
    *createflags.RESOURCES,
    text("restart", "Restart policy to apply when a container exits"),
)  # fmt: skip
def update(session: Session, options: Options) -> int:
    if not options.given:
        raise Misuse("you must provide one or more flags when using this command", 1)
    body = createbody.resources(options)
    if "restart" in options.given:
        try:
            body["RestartPolicy"] = values.restart_policy(options.text("restart"))
        except ValueError as error:
            raise Misuse(str(error)) from None

    def action(name: str) -> str:
        answer = session.engine.post(f"/containers/{name}/update", body=body) or {}
        for warning in answer.get("Warnings") or ():
            complain(warning)
        return name

    return each(session, options.args, action)
