"""`netkit help [COMMAND]`: what COMMAND --help prints."""

from __future__ import annotations

from netkit.cli.catalog import ROOT
from netkit.cli.commands import Count, command
from netkit.cli.flags import Options
from netkit.cli.session import Session
from netkit.client.failure import Misuse


@command("[COMMAND...]", Count(0, 2))
def help_(session: Session, options: Options) -> int:
    """Misuse for words after a command: `netkit run busybox --help` would run a container."""
    from netkit.cli.app import run

    first, *more = options.args or ("",)
    if more and first in ROOT and ROOT[first].inside is None:
        raise Misuse(f"{first} has no subcommands: write `netkit help {first}`")
    return run([*options.args, "--help"])
