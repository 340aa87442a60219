"""weave: the overlay of this host, and its peers."""

from __future__ import annotations

import os

from netkit.cli import weaveflags
from netkit.cli.commands import NONE, Count, at_least, command, complain
from netkit.cli.flags import Options, switch
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session

OPEN = (
    "WARNING: without a password, any host that reaches this one can join the overlay, and data is"
    " not encrypted: see --password-file"
)
PEERS = "PEER is HOST or HOST:PORT; a name stands for all its addresses."


@command("[OPTIONS] [PEER...]", Count(0, None), *weaveflags.LAUNCH, more=PEERS)
def launch(session: Session, options: Options) -> None:
    body = weaveflags.body(options, os.environ)
    made = session.engine.post("/netkit/weave/launch", body=body)
    status = made.get("Status") or {}
    resumed = body.get("Resume") and status.get("encryption")  # with the former launch's password
    if "Password" not in body and not resumed:
        complain(OPEN)
    for warning in made.get("Warnings") or ():
        complain(f"WARNING: {warning}")


@command("[OPTIONS] [PEER...]", Count(0, None),
         switch("replace", "Forget all other peers"), more=PEERS)  # fmt: skip
def connect(session: Session, options: Options) -> None:
    if not options.args and not options.flag("replace"):
        why = Count(1, None).complaint(options.path, 0)
        raise Misuse(f"{why}; usage: {options.path} [OPTIONS] [PEER...]")
    body = {"Peers": list(options.args), "Replace": options.flag("replace")}
    session.engine.post("/netkit/weave/connect", body=body)


@command("PEER [PEER...]", at_least(1),
         more="Connections that there are stay; they are not made again.")  # fmt: skip
def forget(session: Session, options: Options) -> None:
    session.engine.post("/netkit/weave/forget", body={"Peers": list(options.args)})


@command("[OPTIONS] PEER [PEER...]", at_least(1),
         switch("force", "Without asking the others, who may all be unreachable", short="f"),
         more="PEER is a name, or the beginning of an id, of `weave status peers`.")  # fmt: skip
def rmpeer(session: Session, options: Options) -> None:
    for peer in options.args:
        body = {"Peer": peer, "Force": options.flag("force")}
        print(session.engine.post("/netkit/weave/rmpeer", body=body)["Text"])


@command("", NONE)
def prime(session: Session, options: Options) -> None:
    session.engine.post("/netkit/weave/prime", body={})


@command("[OPTIONS]", NONE,
         switch("force", "Wait for no other host that takes over the addresses", short="f"),
         more="Containers that are on network weave run on without it, and without their addresses"
              " there.  The network is removed, and so are this host's identity and settings; other"
              " networks of the overlay stay, without containers of other hosts.")  # fmt: skip
def reset(session: Session, options: Options) -> None:
    done = session.engine.post("/netkit/weave/reset", body={"Force": options.flag("force")})
    for name in done["Containers"]:
        print(f"disconnected from network weave: {name}")


@command("", NONE)
def stop(session: Session, options: Options) -> None:
    session.engine.post("/netkit/weave/stop", body={})
