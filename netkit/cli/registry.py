"""pull, push, search, login, logout, manifest inspect."""

from __future__ import annotations

import base64
import json
import sys

from netkit.cli import filters, human, logins, progress, table
from netkit.cli.commands import at_most, command, complain, exactly
from netkit.cli.flags import Flag, Options, switch, text, value
from netkit.cli.ps import FORMAT_HELP
from netkit.cli.references import full_name, parsed
from netkit.cli.values import integer
from netkit.client.credentials import Credentials, Unusable, hostname, key
from netkit.client.failure import Failure, Misuse, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from netkit.cli.session import Session
    from netkit.client.engine import Json

SEARCH = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"
SEARCH_HEADERS = {
    "Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}  # fmt: skip
_QUIET: Flag = switch("quiet", "Suppress verbose output", short="q")


@command(
    "[OPTIONS] NAME[:TAG|@DIGEST]", exactly(1),
    switch("all-tags", "Download all tagged images in the repository", short="a"),
    text("platform", "Set platform if server is multi-platform capable"),
    _QUIET,
)  # fmt: skip
def pull(session: Session, options: Options) -> None:
    repo, tag, digest = _parts(options.args[0])
    every = options.flag("all-tags")
    if every and (tag or digest):
        raise Failure("tag can't be used with --all-tags/-a")
    if not every and not tag and not digest:
        tag = "latest"
        if not options.flag("quiet"):
            print("Using default tag: latest", flush=True)
    answer = session.engine.stream(
        "POST", "/images/create",
        {"fromImage": full_name(repo), "tag": digest or tag, "platform": options.text("platform")},
        headers=logins.for_image(repo),
    )  # fmt: skip
    progress.show(session.engine.objects(answer), quiet=options.flag("quiet"))
    print(_canonical(repo, tag, digest))


@command(
    "[OPTIONS] NAME[:TAG]", exactly(1),
    switch("all-tags", "Push all tags of an image to the repository", short="a"),
    _QUIET,
)  # fmt: skip
def push(session: Session, options: Options) -> None:
    repo, tag, digest = _parts(options.args[0])
    every, quiet = options.flag("all-tags"), options.flag("quiet")
    if digest:
        raise Failure("cannot push a digest reference")
    if every and tag:
        raise Failure("tag can't be used with --all-tags/-a")
    if not every and not tag:
        tag = "latest"
        if not quiet:
            print("Using default tag: latest", flush=True)
    answer = session.engine.stream(
        "POST", f"/images/{full_name(repo)}/push", {"tag": tag}, headers=logins.for_image(repo)
    )
    progress.show(session.engine.objects(answer), quiet=quiet)
    if quiet:
        print(_canonical(repo, tag, ""))


def _parts(name: str) -> tuple[str, str, str]:
    """Repository, tag and digest.  Failure for what is no name."""
    try:
        found = parsed(name)
    except ValueError as error:
        raise Failure(str(error)) from None
    return found.repository, "" if found.digest else found.tag, found.digest


def _canonical(repo: str, tag: str, digest: str) -> str:
    name = full_name(repo)
    return f"{name}@{digest}" if digest else f"{name}:{tag}" if tag else name


@command(
    "[OPTIONS] TERM", exactly(1),
    filters.flag(),
    text("format", FORMAT_HELP),
    value("limit", "int", integer, "Max number of search results"),
    switch("no-trunc", "Don't truncate output"),
)  # fmt: skip
def search(session: Session, options: Options) -> None:
    given = options.text("format")
    source = SEARCH if given in ("", "table") else given
    query = {"term": options.args[0], "limit": options.number("limit") or "",
             "filters": filters.query(options)}  # fmt: skip
    answer = session.engine.stream(
        "GET", "/images/search", query, headers=logins.for_image(options.args[0])
    )
    found: list[Json] = json.loads(answer.read()) or []
    found.sort(key=lambda each: -int(each["star_count"]))
    whole = options.flag("no-trunc")
    table.write([_result(each, whole) for each in found], source, SEARCH_HEADERS)


def _result(found: Json, whole: bool) -> table.Line:
    description = str(found["description"]).replace("\n", " ").replace("\r", " ")

    def mark(name: str) -> str:
        return "[OK]" if found[name] else ""

    return table.line({
        "Name": lambda: found["name"],
        "Description": lambda: description if whole else human.ellipsis(description, 45),
        "StarCount": lambda: str(found["star_count"]),
        "IsOfficial": lambda: mark("is_official"),
        "IsAutomated": lambda: mark("is_automated"),
    })  # fmt: skip


@command(
    "[OPTIONS] [SERVER]", at_most(1),
    text("password", "Password", short="p"),
    switch("password-stdin", "Take the Password from stdin"),
    text("username", "Username", short="u"),
)  # fmt: skip
def login(session: Session, options: Options) -> None:
    server = hostname(options.args[0]) if options.args else "docker.io"
    config = logins.docker_config()
    given = _given(options)
    try:
        if given is None and (kept := config.get(server)):
            print(f"Authenticating with existing credentials... [Username: {kept.username}]")
            try:
                _try(session, server, kept)
            except Refused as refused:
                complain(f"Login did not succeed, error: {refused}")
            else:
                print("\nLogin Succeeded")
                return
        given = given or _asked(options.text("username"))
        token = _try(session, server, given)
        kept_in = config.store(
            server, Credentials(given.username, "", token) if token else given
        )  # fmt: skip
    except Unusable as error:
        raise Failure(str(error)) from None
    if kept_in:
        complain(
            f"\nWARNING! Your credentials are stored unencrypted in '{kept_in}'.\n"
            "Configure a credential helper to remove this warning: credsStore or credHelpers there."
            "\n"
        )
    print("Login Succeeded")


def _try(session: Session, server: str, given: Credentials) -> str:
    """The identity token, if the registry gives one.  Refused."""
    body = {"username": given.username, "password": given.password, "serveraddress": key(server)}
    if given.identity_token:
        body["identitytoken"] = given.identity_token
    return str(session.engine.post("/auth", body=body).get("IdentityToken") or "")


def _given(options: Options) -> Credentials | None:
    """Those of the command line; None to ask, or to take those that are kept."""
    user, password = options.text("username"), options.text("password")
    if options.flag("password-stdin"):
        if password:
            raise Misuse("--password and --password-stdin are mutually exclusive")
        if not user:
            raise Misuse("the --password-stdin option requires --username to be set")
        password = sys.stdin.read().rstrip("\r\n")
    elif password:
        complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    return Credentials(user, password) if user and password else None


def _asked(user: str) -> Credentials:
    if not sys.stdin.isatty():
        raise Failure("Error: Cannot perform an interactive login from a non TTY device")
    user = user or input("Username: ").strip()
    if not user:
        raise Failure("Error: Non-null Username Required")
    import getpass

    password = getpass.getpass("Password: ")
    if not password:
        raise Failure("Error: Password Required")
    return Credentials(user, password)


@command("[SERVER]", at_most(1))
def logout(session: Session, options: Options) -> None:
    server = hostname(options.args[0]) if options.args else "docker.io"
    try:
        had = logins.docker_config().erase(server)
    except Unusable as error:
        raise Failure(f"WARNING: could not erase credentials: {error}") from None
    name = logins.shown(server)
    print(f"Removing login credentials for {name}" if had else f"Not logged in to {name}")


@command(
    "[OPTIONS] MANIFEST", exactly(1),
    switch("verbose", "Output additional info including layers and platform", short="v"),
)  # fmt: skip
def manifest_inspect(session: Session, options: Options) -> None:
    name = options.args[0]
    found = _looked_up(session, name)
    raw = base64.b64decode(found["Raw"])
    if not options.flag("verbose"):
        print(json.dumps(json.loads(raw), indent=4 if _is_index(raw) else 3))
        return
    document = json.loads(raw)
    if not _is_index(raw):
        print(json.dumps(_verbose(name, found), indent=4))
        return
    repo = _parts(name)[0]
    shown = []
    for entry in document["manifests"]:
        each = _looked_up(session, f"{repo}@{entry['digest']}")
        each["Platforms"] = [entry.get("platform") or {}]
        shown.append(_verbose(f"{repo}@{entry['digest']}", each))
    print(json.dumps(shown, indent=4))


def _is_index(raw: bytes) -> bool:
    return "manifests" in json.loads(raw)


def _looked_up(session: Session, name: str) -> Json:
    repo, tag, digest = _parts(name)
    answer = session.engine.stream(
        "GET", f"/netkit/manifests/{_canonical(repo, tag or 'latest', digest)}",
        headers=logins.for_image(repo),
    )  # fmt: skip
    found: Json = json.loads(answer.read())
    return found


def _verbose(name: str, found: Json) -> dict[str, Any]:
    repo, tag, digest = _parts(name)
    raw = base64.b64decode(found["Raw"])
    platform = next(iter(found["Platforms"]), None)
    kind = "OCIManifest" if "oci" in found["Descriptor"]["mediaType"] else "SchemaV2Manifest"
    return {
        "Ref": _canonical(repo, tag or "latest", digest),
        "Descriptor": found["Descriptor"] | ({"platform": platform} if platform else {}),
        "Raw": found["Raw"],
        kind: json.loads(raw),
    }
