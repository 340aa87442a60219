"""The root command: global flags, dispatch, and how the process ends."""

from __future__ import annotations

import os
import sys

from netkit.cli.catalog import ROOT, WEAVE
from netkit.cli.commands import Entry, Group, complain, flag_table, listing
from netkit.cli.flags import Options, WantsHelp, many, read, switch, text
from netkit.cli.session import Session
from netkit.client.endpoint import DEFAULT_HOST, Endpoint, parse_host, tls_files
from netkit.client.failure import Exit, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIGINT, SIGPIPE = 2, 13  # Linux's; the module signal takes 2 ms to import

FLAGS = (
    many("host", f"Daemon socket to connect to (default {DEFAULT_HOST})", short="H"),
    switch("debug", "Print the traceback of an error, too", short="D"),
    switch("tls", "Use TLS; implied by --tlsverify"),
    switch("tlsverify", "Use TLS and verify the daemon", default=None),
    text("tlscacert", "Trust certs signed only by this CA"),
    text("tlscert", "Path to TLS certificate file"),
    text("tlskey", "Path to TLS key file"),
    switch("version", "Print version information and quit", short="v"),
)


PROGRAMS: Mapping[str, tuple[str, Mapping[str, Entry]]] = {
    "netkit": ("Containers, and networks that can be inspected and rehearsed", ROOT),
    "weave": ("An overlay of the containers of several hosts, without a master", WEAVE),
}


class Root(Group):
    """A program: `netkit`, or `weave`, which is `netkit weave` under its own name."""

    def __init__(self, name: str = "netkit") -> None:
        super().__init__(name, *PROGRAMS[name])

    def parse(self, session: Session, path: str, args: Sequence[str]) -> tuple[str, ...]:
        """Read the global flags, too.  Exit after --help and --version."""
        try:
            options = read(FLAGS, args, path, interspersed=False)
        except WantsHelp:
            print(self.help_text(path))
            raise Exit(0) from None
        if options.flag("version"):
            print(f"{self.name} version {own_version()}")
            raise Exit(0)
        session.debug = options.flag("debug")
        session.endpoint = endpoint_of(options, os.environ)
        return options.args

    def help_text(self, path: str) -> str:
        known = self.entries.items()
        common = {name: entry for name, entry in known if entry.common}
        groups = {name: entry for name, entry in known if entry.inside is not None}
        rest = {name: entry for name, entry in known if name not in common | groups}
        parts: list[tuple[str, Mapping[str, Entry]]] = [
            ("Common Commands", common), ("Management Commands", groups), ("Commands", rest),
        ]  # fmt: skip
        return "\n\n".join(
            [
                f"Usage:  {self.name} [OPTIONS] COMMAND",
                self.help,
                *(f"{title}:\n{listing(entries)}" for title, entries in parts if entries),
                f"Global Options:\n{flag_table(FLAGS)}",
                f"Run '{self.name} COMMAND --help' for more information on a command.",
            ]
        )


def own_version() -> str:
    from netkit import __version__

    return __version__


def endpoint_of(options: Options, environ: Mapping[str, str]) -> Endpoint:
    """-H, else NETKIT_HOST, else DOCKER_HOST, else the socket of the daemon of this machine."""
    hosts = options.texts("host")
    if len(hosts) > 1:
        raise Failure("specify only one -H")
    tls = tls_files(
        environ,
        tls=options.flag("tls"),
        verify=options.optional_flag("tlsverify"),
        ca=options.text("tlscacert"),
        cert=options.text("tlscert"),
        key=options.text("tlskey"),
    )
    given = hosts[0] if hosts else environ.get("NETKIT_HOST") or environ.get("DOCKER_HOST")
    return parse_host(given or DEFAULT_HOST, tls)


def run(argv: Sequence[str], program: str = "netkit") -> int:
    """Return the exit code of one command line of `program`, a key of PROGRAMS.

    Messages go to standard error, one line each.
    """
    session = Session()
    try:
        code = Root(program).run(session, program, argv)
        sys.stdout.flush()
        return code
    except Exit as end:
        sys.stdout.flush()
        return end.code
    except Failure as failure:
        _flush()
        if session.debug:
            import traceback

            traceback.print_exc()
        complain(str(failure).rstrip())
        return failure.code
    except KeyboardInterrupt:
        _flush()
        return 128 + SIGINT
    except BrokenPipeError:
        # The reader of our output has closed it, as `| head` does: end as if by SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + SIGPIPE
    except OSError as error:  # a full disk, a closed terminal
        complain(f"{program}: {error}")
        return 1
    finally:
        session.close()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
