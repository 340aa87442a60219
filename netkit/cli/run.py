"""run and create."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager

from netkit.cli import createbody, createflags, terminal
from netkit.cli.commands import at_least, command, complain
from netkit.cli.references import full_name, is_id, parsed, split_tag, with_tag
from netkit.client.failure import ENGINE_ERROR, NOT_EXECUTABLE, NOT_FOUND, Failure, Misuse, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from netkit.cli.flags import Options
    from netkit.cli.session import Session
    from netkit.client.engine import Json

PULLS = ("always", "missing", "never")


@command("[OPTIONS] IMAGE [COMMAND] [ARG...]", at_least(1), *createflags.CREATE,
         interspersed=False)  # fmt: skip
def create(session: Session, options: Options) -> None:
    body = request_body(options)
    print(created(session, options, body))


@command("[OPTIONS] IMAGE [COMMAND] [ARG...]", at_least(1), *createflags.RUN,
         interspersed=False)  # fmt: skip
def run(session: Session, options: Options) -> int:
    body = request_body(options)
    keys = terminal.detach_keys(options.text("detach-keys"))
    if options.flag("detach"):
        if options.texts("attach"):
            raise Misuse("conflicting options: cannot specify both --attach and --detach")
        body |= dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"), False)
    else:
        terminal.require_terminal(body["AttachStdin"], options.flag("tty"))
    with exit_codes_of_run():
        container = created(session, options, body)
        if options.flag("detach"):
            print(container, flush=True)
            session.engine.post(f"/containers/{container}/start")
            return 0
        from netkit.cli.forward import forwarding

        with forwarding(session.engine, container, options.flag("sig-proxy")):
            return _attached(session, container, body, keys)


def _attached(session: Session, container: str, body: Json, keys: str) -> int:
    """Start it with our streams attached; its exit status."""
    from netkit.cli.conversation import Ending, removed_after, resizer, talk

    engine, tty = session.engine, bool(body.get("Tty"))
    stdin, stdout, stderr = (body[f"Attach{name}"] for name in ("Stdin", "Stdout", "Stderr"))
    stream = engine.hijack(
        f"/containers/{container}/attach",
        {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr, "detachKeys": keys},
    )
    rm = bool(body["HostConfig"].get("AutoRemove"))
    ending = Ending(engine, container, "removed" if rm else "next-exit")
    with removed_after(ending, rm):
        engine.post(f"/containers/{container}/start")
    talk(
        stream, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr,
        resize=resizer(engine, f"/containers/{container}"),
    )  # fmt: skip
    if tty and stdin and ending.detached():
        return 0
    return ending.status()


def request_body(options: Options) -> Json:
    """Return the body of POST /containers/create.  Misuse for wrong flags, with their status."""
    if options.text("pull") not in (*PULLS, ""):
        raise Misuse(
            f"invalid pull option: '{options.text('pull')}': must be one of"
            ' "always", "missing" or "never"',
            ENGINE_ERROR,
        )
    try:
        if not is_id(options.args[0]):
            parsed(options.args[0])
        body = createbody.body(options)
    except ValueError as error:
        raise Misuse(f"{error} (see '{options.path} --help')", ENGINE_ERROR) from None
    if size := terminal.size():
        body["HostConfig"]["ConsoleSize"] = list(size)
    for server in options.texts("dns"):
        if server.startswith("127.") or server == "::1":
            complain(f"WARNING: Localhost DNS setting (--dns={server}) may fail in containers.")
    return body


def created(session: Session, options: Options, body: Json) -> str:
    """Make the container, after a pull if need be, and return its id; --cidfile gets it, too."""
    image, platform = options.args[0], options.text("platform")
    query = {"name": options.text("name"), "platform": platform}
    with _cid_file(options.text("cidfile")) as ids:
        if options.text("pull") == "always":
            _pull(session, image, options)
        try:
            made = session.engine.post("/containers/create", query, body)
        except Refused as refused:
            if refused.status != 404 or options.text("pull") not in ("missing", ""):
                raise
            if not _is_about_image(refused, image):
                raise
            if not options.flag("quiet"):
                complain(f"Unable to find image '{with_tag(image)}' locally")
            _pull(session, image, options)
            made = session.engine.post("/containers/create", query, body)
        for warning in made.get("Warnings") or ():
            complain(f"WARNING: {warning}")
        ids.append(made["Id"])
    return str(made["Id"])


def _is_about_image(refused: Refused, image: str) -> bool:
    """A 404 for a network or a volume is none that a pull can cure."""
    is_id = re.fullmatch(r"sha256:[0-9a-f]{64}|[0-9a-f]{64}", image)
    return "image" in refused.reason.lower() and not is_id


def _pull(session: Session, image: str, options: Options) -> None:
    from netkit.cli import logins, progress

    name, _, digest = image.partition("@")
    repo, tag = split_tag(name)
    answer = session.engine.stream(
        "POST", "/images/create",
        {"fromImage": full_name(repo), "tag": digest or tag or "latest",
         "platform": options.text("platform")},
        headers=logins.for_image(repo),
    )  # fmt: skip
    progress.show(session.engine.objects(answer), quiet=options.flag("quiet"), fd=2)


@contextmanager
def _cid_file(path: str) -> Iterator[list[str]]:
    """Gives a list for the id; the file exists afterwards only with an id in it."""
    ids: list[str] = []
    if not path:
        yield ids
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise Failure(
            "container ID file found, make sure the other container isn't running or delete"
            f" {path}",
            ENGINE_ERROR,
        ) from None
    except OSError as error:
        raise Failure(
            f"failed to create the container ID file: open {path}: {error.strerror}", ENGINE_ERROR
        ) from None
    try:
        yield ids
    finally:
        with os.fdopen(fd, "w") as file:
            file.write("".join(ids))
        if not ids:
            os.unlink(path)


@contextmanager
def exit_codes_of_run(prefix: str = "netkit: ") -> Iterator[None]:
    """Exit codes of `run`: 127 and 126 for a program that cannot be had, 125 for the engine.

    `prefix`: before each message, as docker has it for `run` and for no other command.
    """
    try:
        yield
    except Failure as failure:
        raise Failure(f"{prefix}{failure}", exit_code(str(failure))) from failure


def exit_code(message: str) -> int:
    text = message.lower()
    if "executable file not found" in text or "no such file or directory" in text:
        return NOT_FOUND
    if "permission denied" in text or "is a directory" in text:
        return NOT_EXECUTABLE
    return ENGINE_ERROR
