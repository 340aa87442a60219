"""The `netkit` command: docker's grammar, an HTTP client of the daemon."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    import sys

    from netkit.cli.app import run

    sys.exit(run(sys.argv[1:]))


def weave_main() -> NoReturn:
    """Run the command line of this process as `netkit weave`, under its own name, and exit."""
    import sys

    from netkit.cli.app import run

    sys.exit(run(sys.argv[1:], "weave"))
