"""exec."""

from __future__ import annotations

from netkit.cli import createbody, terminal, values
from netkit.cli.commands import at_least, command
from netkit.cli.flags import Options, many, switch, text
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session
    from netkit.client.engine import Json


@command(
    "[OPTIONS] CONTAINER COMMAND [ARG...]", at_least(2),
    switch("detach", "Detached mode: run command in the background", short="d"),
    text("detach-keys", "Override the key sequence for detaching a container"),
    many("env", "Set environment variables", short="e", parse=values.variable),
    many("env-file", "Read in a file of environment variables"),
    switch("interactive", "Keep STDIN open even if not attached", short="i"),
    switch("privileged", "Give extended privileges to the command"),
    switch("tty", "Allocate a pseudo-TTY", short="t"),
    text("user", 'Username or UID (format: "<name|uid>[:<group|gid>]")', short="u"),
    text("workdir", "Working directory inside the container", short="w"),
    interspersed=False,
)  # fmt: skip
def exec_(session: Session, options: Options) -> int:
    engine, container = session.engine, options.args[0]
    detach, tty = options.flag("detach"), options.flag("tty")
    body = request(options)
    if not detach:
        if body["AttachStdin"] and tty:
            engine.get(f"/containers/{container}/json")  # no such container goes first
        terminal.require_terminal(body["AttachStdin"], tty)
    made = engine.post(f"/containers/{container}/exec", body=body)["Id"]
    start: Json = {"Detach": detach, "Tty": tty}
    if "ConsoleSize" in body:
        start["ConsoleSize"] = body["ConsoleSize"]
    if detach:
        engine.post(f"/exec/{made}/start", body=start)
        return 0
    from netkit.cli.conversation import resizer, talk

    stream = engine.hijack(f"/exec/{made}/start", body=start)
    talk(stream, tty=tty, stdin=body["AttachStdin"], resize=resizer(engine, f"/exec/{made}"))
    end = engine.get(f"/exec/{made}/json")
    return 0 if end.get("Running") else int(end.get("ExitCode") or 0)


def request(options: Options) -> Json:
    """The body of POST /containers/NAME/exec."""
    attached = not options.flag("detach")
    try:
        env = createbody.environment(options)
    except ValueError as error:
        raise Misuse(str(error), 1) from None
    body: Json = {
        "User": options.text("user"),
        "Privileged": options.flag("privileged"),
        "Tty": options.flag("tty"),
        "Detach": not attached,
        "AttachStdin": attached and options.flag("interactive"),
        "AttachStdout": attached,
        "AttachStderr": attached,
        "DetachKeys": terminal.detach_keys(options.text("detach-keys")),
        "Env": env,
        "WorkingDir": options.text("workdir"),
        "Cmd": list(options.args[1:]),
    }
    if options.flag("tty") and (size := terminal.size()):
        body["ConsoleSize"] = list(size)
    return body
