"""`netkit help [COMMAND]`: what COMMAND --help prints."""

from __future__ import annotations

from netkit.cli.catalog import ROOT
from netkit.cli.commands import Count, command, program_of
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.flags import Options
    from netkit.cli.session import Session


@command("[COMMAND...]", Count(0, 2))
def help_(session: Session, options: Options) -> int:
    """Misuse for words after a command: `netkit run busybox --help` would run a container."""
    from netkit.cli.app import run

    first, *more = options.args or ("",)
    if more and first in ROOT and ROOT[first].inside is None:
        raise Misuse(f"{first} has no subcommands: write `netkit help {first}`")
    return run([*options.args, "--help"])


@command("[COMMAND]", Count(0, 1))
def help_of_group(session: Session, options: Options) -> int:
    """`netkit weave help launch`, and `weave help launch`."""
    from netkit.cli.app import run

    _, *group, _ = options.path.split()
    return run([*group, *options.args, "--help"], program_of(options.path))
