"""Commands that change what exists: stop, kill, restart, pause, wait, rename, rm."""

from __future__ import annotations

from netkit.cli import values
from netkit.cli.commands import at_least, command, complain, exactly
from netkit.cli.flags import Options, alias, switch, text, value
from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from netkit.cli.session import Session

    Action = Callable[[str], str | None]  # a name to what is printed for it

CONTAINERS = "CONTAINER [CONTAINER...]"
PARALLEL = 16  # calls at a time for many names
SIGNAL = text("signal", "Signal to send to the container", short="s")
TIMEOUT = value(
    "timeout", "int", values.integer, "Seconds to wait before killing the container", short="t"
)
TIME = alias(TIMEOUT, "time")


def each(session: Session, names: Sequence[str], action: Action) -> int:
    """Call it for every name; print the result or the error, in the order given.

    1 if any failed: the rest are done nevertheless.
    """
    session.engine.negotiate()  # once, not by every thread
    failed = 0
    for outcome in _outcomes(names, action):
        if isinstance(outcome, Failure):
            complain(str(outcome))
            failed = 1
        elif outcome is not None:
            print(outcome, flush=True)
    return failed


def _outcomes(names: Sequence[str], action: Action) -> Iterator[str | Failure | None]:
    def attempt(name: str) -> str | Failure | None:
        if not name.strip():
            return Failure("invalid container name or ID: value is empty")
        try:
            return action(name)
        except Failure as failure:
            return failure

    if len(names) == 1:
        yield attempt(names[0])
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(PARALLEL) as pool:
        yield from pool.map(attempt, names)


def _post(session: Session, verb: str, query: dict[str, object]) -> Callable[[str], str]:
    def action(name: str) -> str:
        session.engine.post(f"/containers/{name}/{verb}", query)
        return name

    return action


def _ending(session: Session, options: Options, verb: str) -> int:
    query: dict[str, object] = {"signal": options.text("signal"), "t": options.values["timeout"]}
    return each(session, options.args, _post(session, verb, query))


@command(f"[OPTIONS] {CONTAINERS}", at_least(1), SIGNAL, TIMEOUT, TIME)
def stop(session: Session, options: Options) -> int:
    return _ending(session, options, "stop")


@command(f"[OPTIONS] {CONTAINERS}", at_least(1), SIGNAL, TIMEOUT, TIME)
def restart(session: Session, options: Options) -> int:
    return _ending(session, options, "restart")


@command(f"[OPTIONS] {CONTAINERS}", at_least(1), SIGNAL)
def kill(session: Session, options: Options) -> int:
    return each(session, options.args, _post(session, "kill", {"signal": options.text("signal")}))


@command(CONTAINERS, at_least(1))
def pause(session: Session, options: Options) -> int:
    return each(session, options.args, _post(session, "pause", {}))


@command(CONTAINERS, at_least(1))
def unpause(session: Session, options: Options) -> int:
    return each(session, options.args, _post(session, "unpause", {}))


@command(CONTAINERS, at_least(1))
def wait(session: Session, options: Options) -> int:
    def action(name: str) -> str:
        end = session.engine.post(f"/containers/{name}/wait")
        if error := (end.get("Error") or {}).get("Message"):
            raise Failure(error)
        return str(end["StatusCode"])

    return each(session, options.args, action)


@command("CONTAINER NEW_NAME", exactly(2))
def rename(session: Session, options: Options) -> None:
    old, new = (name.strip() for name in options.args)
    if not old or not new:
        raise Failure("Error: Neither old nor new names may be empty")
    session.engine.post(f"/containers/{old}/rename", {"name": new})


@command(
    f"[OPTIONS] {CONTAINERS}", at_least(1),
    switch("force", "Force the removal of a running container (uses SIGKILL)", short="f"),
    switch("link", "Remove the specified link", short="l"),
    switch("volumes", "Remove anonymous volumes associated with the container", short="v"),
)  # fmt: skip
def rm(session: Session, options: Options) -> int:
    query: dict[str, object] = {
        "v": options.flag("volumes"), "link": options.flag("link"), "force": options.flag("force"),
    }  # fmt: skip

    def action(name: str) -> str | None:
        try:
            session.engine.delete(f"/containers/{name.strip('/')}", query)
        except Failure as failure:
            if options.flag("force") and getattr(failure, "status", 0) == 404:
                complain(str(failure))  # as rm -f: printed, but no failure
                return None
            raise
        return name

    return each(session, options.args, action)
