"""images, history, tag, commit, rmi."""

from __future__ import annotations

from netkit.cli import filters, human, table
from netkit.cli.commands import Count, at_least, at_most, command, complain, exactly
from netkit.cli.flags import Options, many, switch, text
from netkit.cli.ps import FORMAT_HELP, table_format
from netkit.cli.references import full_name, is_id, parsed
from netkit.cli.values import comma_list
from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netkit.cli.session import Session
    from netkit.client.engine import Json

NONE_TAG = "<none>"
TABLE = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
DIGEST_TABLE = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
RAW = (
    "repository: {{.Repository}}\ntag: {{.Tag}}\n%simage_id: {{.ID}}\n"
    "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
)
HEADERS = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST",
    "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Size": "SIZE",
    "Containers": "CONTAINERS", "VirtualSize": "SIZE", "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}  # fmt: skip


@command(
    "[OPTIONS] [REPOSITORY[:TAG]]", at_most(1),
    switch("all", "Show all images (default hides intermediate images)", short="a"),
    switch("digests", "Show digests"),
    filters.flag(),
    text("format", FORMAT_HELP),
    switch("no-trunc", "Don't truncate output"),
    switch("quiet", "Only show image IDs", short="q"),
    switch("tree", "Show each image once, below all its names"),
)  # fmt: skip
def images(session: Session, options: Options) -> None:
    if options.flag("tree"):
        _tree(session, options)
        return
    digests = options.flag("digests")
    raw = RAW % ("digest: {{.Digest}}\n" if digests else "")
    source = table_format(
        options, DIGEST_TABLE if digests else TABLE, raw=(raw, "image_id: {{.ID}}")
    )
    query = filters.query(options, reference=[name for name in options.args if name])
    found = session.engine.get("/images/json", {"all": options.flag("all"), "filters": query})
    wanted = digests or "{{.Digest}}" in source
    rows = [
        row(each, names, session.now, not options.flag("no-trunc"))
        for each in found
        for names in tagged(each, digests, wanted)
    ]
    table.write(rows, source, HEADERS, style=_plain if session.colour else None)


_TREE = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
_WIDTHS = (12, 10, 12, 5)  # of all but the first


def _tree(session: Session, options: Options) -> None:
    """As docker shows it; an image is of one platform here, so nothing is below one."""
    for name, given in (("quiet", "quiet"), ("no-trunc", "no-trunc"), ("digests", "show-digest")):
        if options.flag(name):
            raise Failure(f"--{given} is not yet supported with --tree")
    if options.text("format"):
        raise Failure("--format is not yet supported with --tree")
    query = filters.query(options, reference=[name for name in options.args if name])
    found = session.engine.get("/images/json", {"all": options.flag("all"), "filters": query})
    rows: list[tuple[str, ...]] = []
    for each in sorted(found, key=lambda image: image["Created"], reverse=True):
        names = [name for name in each.get("RepoTags") or () if name != "<none>:<none>"]
        if not names and not options.flag("all"):
            continue
        *above, last = names or ["<untagged>"]
        rows += [(name,) for name in above]
        used = "U" if each.get("Containers", 0) > 0 else ""
        size = human.size(each["Size"])
        rows.append((last, human.short_id(each["Id"]), size, "0B", used))
    widest = max([len(row[0]) for row in rows] + [len("IMAGE")])
    head = "   ".join(
        text.ljust(width) for text, width in zip(_TREE, (widest, *_WIDTHS), strict=True)
    )
    print(f"{'Info ->  U In Use':>{len(head)}}\n\n{head.rstrip()}")
    for row in rows:
        print(_line(row, widest))


def _line(row: tuple[str, ...], widest: int) -> str:
    if len(row) == 1:
        return row[0]
    name, id, size, content, used = row
    text = f"{name:<{widest}}   {id:<12}   {size:>10}   {content:>12}   {used:^5}"
    return text.rstrip()


def _plain(header: str, cell: str) -> str:
    return cell


def tagged(found: Json, digests: bool, wanted: bool) -> Iterator[tuple[str, str, str]]:
    """Repository, tag and digest of each line an image gets."""
    tags = [each for each in found.get("RepoTags") or () if each != "<none>:<none>"]
    known = [each for each in found.get("RepoDigests") or () if each != "<none>@<none>"]
    if not tags and not known:
        yield NONE_TAG, NONE_TAG, NONE_TAG
        return
    by_repo: dict[str, list[str]] = {}
    for each in known:
        repo, _, digest = each.partition("@")
        by_repo.setdefault(repo, []).append(digest)
    tagged_repos = set()
    for each in tags:
        repo, _, tag = each.rpartition(":")
        tagged_repos.add(repo)
        for digest in (by_repo.get(repo) if wanted else None) or [NONE_TAG]:
            yield repo, tag, digest
    for repo, several in by_repo.items():
        if repo in tagged_repos:
            continue
        if not digests:
            yield repo, NONE_TAG, ""
            continue
        for digest in several:
            yield repo, NONE_TAG, digest


def row(found: Json, names: tuple[str, str, str], now: float, trunc: bool) -> table.Line:
    def known(amount: int) -> str:
        return "N/A" if amount == -1 else human.size(amount, 4)

    shared = found.get("SharedSize", -1)
    fields: dict[str, Callable[[], object]] = {
        "ID": lambda: human.short_id(found["Id"]) if trunc else found["Id"],
        "Repository": lambda: names[0],
        "Tag": lambda: names[1],
        "Digest": lambda: names[2],
        "CreatedSince": lambda: human.ago(found["Created"], now),
        "CreatedAt": lambda: human.moment(found["Created"]),
        "Size": lambda: human.size(found["Size"]),
        "VirtualSize": lambda: human.size(found["Size"], 4),
        "Containers": lambda: (
            "N/A" if found.get("Containers", -1) == -1 else str(found["Containers"])
        ),
        "SharedSize": lambda: known(shared),
        "UniqueSize": lambda: "N/A" if shared == -1 else known(found["Size"] - shared),
    }
    return table.line(fields)


HISTORY = "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
HISTORY_HUMAN = HISTORY
HISTORY_PLAIN = HISTORY.replace("CreatedSince", "CreatedAt")
HISTORY_HEADERS = {
    "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
}  # fmt: skip


@command(
    "[OPTIONS] IMAGE", exactly(1),
    text("format", FORMAT_HELP),
    switch("human", "Print sizes and dates in human readable format", short="H", default=True),
    switch("no-trunc", "Don't truncate output"),
    switch("quiet", "Only show image IDs", short="q"),
)  # fmt: skip
def history(session: Session, options: Options) -> None:
    plain = not options.flag("human")
    source = table_format(options, HISTORY_PLAIN if plain else HISTORY_HUMAN)
    found = session.engine.get(f"/images/{options.args[0]}/history")
    trunc = not options.flag("no-trunc")
    rows = [_step(each, session.now, trunc, plain) for each in found]
    table.write(rows, source, HISTORY_HEADERS, style=_plain if session.colour else None)


def _step(found: Json, now: float, trunc: bool, plain: bool) -> table.Line:
    made_by = found["CreatedBy"].replace("\t", " ")
    fields: dict[str, Callable[[], object]] = {
        "ID": lambda: human.short_id(found["Id"]) if trunc else found["Id"],
        "CreatedAt": lambda: human.moment_iso(found["Created"]),
        "CreatedSince": lambda: (
            human.moment_iso(found["Created"]) if plain else human.ago(found["Created"], now)
        ),
        "CreatedBy": lambda: human.ellipsis(made_by, 45) if trunc else made_by,
        "Size": lambda: str(found["Size"]) if plain else human.size(found["Size"]),
        "Comment": lambda: found["Comment"],
    }
    return table.line(fields)


@command("SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", exactly(2))
def tag(session: Session, options: Options) -> None:
    source, target = options.args
    try:
        for each in (source, target):
            if each is target or not is_id(each):
                named = parsed(each)
    except ValueError as error:
        raise Failure(
            f"Error parsing reference: {human.quoted(each)} is not a valid repository/tag: {error}"
        ) from None
    if named.digest:
        raise Failure("refusing to create a tag with a digest reference")
    query = {"repo": full_name(named.repository), "tag": named.tag or "latest"}
    session.engine.post(f"/images/{source}/tag", query)


@command(
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", Count(1, 2),
    text("author", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")', short="a"),
    many("change", "Apply Dockerfile instruction to the created image", short="c"),
    text("message", "Commit message", short="m"),
    switch("pause", "Pause container during commit", short="p", default=True),
)  # fmt: skip
def commit(session: Session, options: Options) -> None:
    container, *reference = options.args
    repo, name = _new_name(reference[0]) if reference and reference[0] else ("", "")
    query = {
        "container": container, "repo": repo, "tag": name, "author": options.text("author"),
        "comment": options.text("message"), "changes": options.texts("change"),
        "pause": None if options.flag("pause") else "0",
    }  # fmt: skip
    print(session.engine.post("/commit", query)["Id"])


def _new_name(text: str) -> tuple[str, str]:
    try:
        named = parsed(text)
    except ValueError as error:
        raise Failure(str(error)) from None
    if named.digest:
        raise Failure("refusing to create a tag with a digest reference")
    return full_name(named.repository), named.tag or "latest"


@command(
    "[OPTIONS] IMAGE [IMAGE...]", at_least(1),
    switch("force", "Force removal of the image", short="f"),
    switch("no-prune", "Do not delete untagged parents"),
    many("platform", 'Remove only the given platform variant ("linux/amd64")', parse=comma_list),
)  # fmt: skip
def rmi(session: Session, options: Options) -> int:
    failed = 0
    platforms = [platform_json(each) for each in options.texts("platform")]
    query = {
        "force": options.flag("force"), "noprune": options.flag("no-prune"),
        "platforms": platforms,
    }  # fmt: skip
    for name in options.args:
        try:
            done = session.engine.delete(f"/images/{name}", query)
        except Failure as failure:
            absent = getattr(failure, "status", 0) == 404
            complain(str(failure))
            failed |= not (absent and options.flag("force"))
            continue
        for step in done or ():
            verb = "Deleted" if step.get("Deleted") else "Untagged"
            print(f"{verb}: {step.get('Deleted') or step.get('Untagged')}")
    return int(failed)


def platform_json(text: str) -> str:
    """ "linux/arm/v7" as the API's JSON."""
    import json

    system, _, rest = text.partition("/")
    machine, _, variant = rest.partition("/")
    if not system or not machine:
        raise Failure(f'invalid platform {text!r}: use os/arch[/variant], as in "linux/amd64"')
    found = {"architecture": machine, "os": system} | ({"variant": variant} if variant else {})
    return json.dumps(found, separators=(",", ":"))
