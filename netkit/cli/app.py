"""The root command: global flags, dispatch, and how the process ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence

import click

from netkit.cli.catalog import ROOT
from netkit.cli.commands import Entry, Group, complain, flag_table, listing
from netkit.cli.flags import Options, WantsHelp, many, read, switch, text
from netkit.cli.session import Session
from netkit.client.endpoint import DEFAULT_HOST, Endpoint, parse_host, tls_files
from netkit.client.failure import Exit, Failure

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


class Root(Group):
    def __init__(self) -> None:
        super().__init__(
            "netkit",
            "Containers, and networks that can be inspected and rehearsed",
            ROOT,
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            options = read(FLAGS, args, ctx.command_path, interspersed=False)
        except WantsHelp:
            print(self.get_help(ctx))
            raise Exit(0) from None
        if options.flag("version"):
            print(f"netkit version {own_version()}")
            raise Exit(0)
        session = ctx.ensure_object(Session)
        session.debug = options.flag("debug")
        session.endpoint = endpoint_of(options, os.environ)
        ctx.args = list(options.args)
        return ctx.args

    def get_help(self, ctx: click.Context) -> str:
        common = {name: entry for name, entry in ROOT.items() if entry.common}
        groups = {name: entry for name, entry in ROOT.items() if entry.inside is not None}
        rest = {name: entry for name, entry in ROOT.items() if name not in common | groups}
        parts: list[tuple[str, Mapping[str, Entry]]] = [
            ("Common Commands", common), ("Management Commands", groups), ("Commands", rest),
        ]  # fmt: skip
        return "\n\n".join(
            [
                "Usage:  netkit [OPTIONS] COMMAND",
                self.help or "",
                *(f"{title}:\n{listing(entries)}" for title, entries in parts),
                f"Global Options:\n{flag_table(FLAGS)}",
                "Run 'netkit COMMAND --help' for more information on a command.",
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


def run(argv: Sequence[str]) -> int:
    """The exit code of one command line; messages go to standard error, one line each."""
    session = Session()
    try:
        with Root().make_context("netkit", list(argv), obj=session) as ctx:
            code = ctx.command.invoke(ctx)
        sys.stdout.flush()
        return int(code or 0)
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
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has closed it, as `| head` does: end as if by SIGPIPE.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # a full disk, a closed terminal
        complain(f"netkit: {error}")
        return 1
    finally:
        if "engine" in session.__dict__:
            session.engine.close()


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
