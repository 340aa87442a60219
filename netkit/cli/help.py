"""`netkit help [COMMAND]`: what COMMAND --help prints."""

from __future__ import annotations

from netkit.cli.commands import Count, command
from netkit.cli.flags import Options
from netkit.cli.session import Session


@command("[COMMAND...]", Count(0, 2))
def help_(session: Session, options: Options) -> int:
    from netkit.cli.app import run

    return run([*options.args, "--help"])
