"""ui: the networks of an engine as a page in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netkit.cli.commands import NONE, command
from netkit.cli.flags import Flag, Options, value
from netkit.cli.values import unsigned
from netkit.client.failure import Failure, Refused
from netkit.ui.source import HERE, LabControl, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netkit.cli.session import Session

PORT: Flag = value("port", "uint16", unsigned(65535), "TCP port of 127.0.0.1; any that is free "
                   "unless given")  # fmt: skip
MORE = """\
The page is served on 127.0.0.1 alone, to the browser that opens the link printed, until Ctrl-C.
Who has the link can do what the engine's user can: do not hand it on."""


@command("[OPTIONS]", NONE, PORT, more=MORE)
def ui(session: Session, options: Options) -> None:
    _require_netkitd(session)  # an error now, not a page that has it
    here = Source(name=HERE, netkit=session.endpoint, engine=session.endpoint)
    run([here], None, options.number("port"))


def _require_netkitd(session: Session) -> None:
    """Failure where no engine answers, or another one than netkitd."""
    try:
        session.engine.stream("GET", "/netkit/watch").wire.close()
    except Refused as refused:
        if refused.status != 404:
            raise
        where = session.endpoint.text
        raise Failure(
            f"the engine at {where} is not netkitd: give the address of one with -H or NETKIT_HOST"
        ) from None


def run(sources: Sequence[Source], lab: LabControl | None, port: int) -> None:
    """Serve a page of these engines and print its link; until KeyboardInterrupt.  Failure."""
    import asyncio

    from netkit.ui.guard import Guard
    from netkit.ui.server import application, listening, serve

    try:
        sock = listening(port)
    except OSError as error:
        raise Failure(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from None
    with sock:
        guard = Guard(port=sock.getsockname()[1])
        print(guard.url, flush=True)
        asyncio.run(serve(application(guard, sources, lab), sock))
