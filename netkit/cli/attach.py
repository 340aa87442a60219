"""attach and start."""

from __future__ import annotations

from netkit.cli import terminal
from netkit.cli.commands import at_least, command, complain, exactly
from netkit.cli.flags import Options, switch, text
from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session
    from netkit.client.engine import Json

KEYS = text("detach-keys", "Override the key sequence for detaching a container")


@command(
    "[OPTIONS] CONTAINER", exactly(1),
    KEYS,
    switch("no-stdin", "Do not attach STDIN"),
    switch("sig-proxy", "Proxy all received signals to the process", default=True),
)  # fmt: skip
def attach(session: Session, options: Options) -> int:
    from netkit.cli.conversation import Ending, resizer, talk
    from netkit.cli.forward import forwarding

    engine, keys = session.engine, terminal.detach_keys(options.text("detach-keys"))
    found = engine.get(f"/containers/{options.args[0]}/json")
    _check(found)
    container, tty = found["Id"], found["Config"]["Tty"]
    stdin = not options.flag("no-stdin") and found["Config"]["OpenStdin"]
    terminal.require_terminal(stdin, tty)
    ending = Ending(engine, container)
    with forwarding(engine, container, options.flag("sig-proxy") and not tty):
        stream = engine.hijack(f"/containers/{container}/attach", _streams(stdin, keys))
        _check(engine.get(f"/containers/{container}/json"))
        resize = resizer(engine, f"/containers/{container}")
        if tty and (size := terminal.size()):
            resize(size[0] + 1, size[1] + 1)  # a change makes a shell draw its prompt again
        talk(stream, tty=tty, stdin=stdin, resize=resize)
    return 0 if tty and stdin and ending.detached() else ending.status()


@command(
    "[OPTIONS] CONTAINER [CONTAINER...]", at_least(1),
    switch("attach", "Attach STDOUT/STDERR and forward signals", short="a"),
    KEYS,
    switch("interactive", "Attach container's STDIN", short="i"),
)  # fmt: skip
def start(session: Session, options: Options) -> int:
    keys = terminal.detach_keys(options.text("detach-keys"))
    if not options.flag("attach") and not options.flag("interactive"):
        return _start_all(session, options.args)
    if len(options.args) > 1:
        raise Failure("you cannot start and attach multiple containers at once")
    return _start_attached(session, options.args[0], keys, options.flag("interactive"))


def _start_attached(session: Session, name: str, keys: str, interactive: bool) -> int:
    from netkit.cli.conversation import Ending, removed_after, resizer, talk
    from netkit.cli.forward import forwarding

    engine = session.engine
    found = engine.get(f"/containers/{name}/json")
    container, tty = found["Id"], found["Config"]["Tty"]
    stdin = interactive and found["Config"]["OpenStdin"]
    rm = bool(found["HostConfig"]["AutoRemove"])
    with forwarding(engine, container, not tty):
        stream = engine.hijack(f"/containers/{container}/attach", _streams(stdin, keys))
        ending = Ending(engine, container, "removed" if rm else "next-exit")
        with removed_after(ending, rm):
            engine.post(f"/containers/{container}/start")
        talk(stream, tty=tty, stdin=stdin, resize=resizer(engine, f"/containers/{container}"))
    return 0 if tty and stdin and ending.detached() else ending.status()


def _start_all(session: Session, names: tuple[str, ...]) -> int:
    failed = []
    for name in names:
        try:
            session.engine.post(f"/containers/{name}/start")
            print(name, flush=True)
        except Failure as failure:
            complain(str(failure))
            failed.append(name)
    if failed:
        raise Failure(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _streams(stdin: bool, keys: str) -> Json:
    return {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "detachKeys": keys}


def _check(found: Json) -> None:
    """Raise Failure for a container that cannot be attached to."""
    state = found["State"]
    if not state["Running"]:
        raise Failure("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise Failure("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise Failure("You cannot attach to a restarting container, wait until it is running")
