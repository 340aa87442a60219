"""build: send a context, show what the daemon makes of it.  builder prune."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping

from netkit.cli import human, progress, values
from netkit.cli.buildcontext import compressed, counted, prepare
from netkit.cli.commands import command, exactly
from netkit.cli.flags import Flag, Options, many, switch, text, value
from netkit.cli.references import parsed
from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session
    from netkit.client.engine import Json

REDRAW = 0.1  # seconds between two sizes on a terminal


def _reference(given: str) -> str:
    """A name with or without a tag, checked as docker does."""
    parsed(given)
    return given


def _buildkit(name: str, instead: str, *, short: str = "", kind: str = "string") -> Flag:
    """A flag of `docker buildx build`; those are refused with what to do instead."""
    why = f"belongs to BuildKit, which is not here: {instead} (docs/build.md)"
    return Flag(name=name, short=short, kind=kind, hidden=True, refused=why)


def _progress(given: str) -> str:
    if given not in ("auto", "plain"):
        raise ValueError("only auto and plain, the output that there is; for none use -q")
    return given


_STAGE = "use a stage of its own, and COPY --from"
_NONE = "leave it out"
BUILDKIT = (
    _buildkit("allow", _NONE),
    _buildkit("annotation", "use --label"),
    _buildkit("attest", f"no attestations are made, {_NONE}"),
    _buildkit("build-context", _STAGE),
    _buildkit("builder", f"the engine builds, {_NONE}"),
    _buildkit("cache-to", f"images keep the cache, {_NONE}"),
    _buildkit("call", f"nothing but builds are made, {_NONE}"),
    _buildkit("check", f"a build checks the Dockerfile before its first step, {_NONE}",
              kind="bool"),
    _buildkit("load", f"the image is in the engine after every build, {_NONE}", kind="bool"),
    _buildkit("metadata-file", "use --iidfile"),
    _buildkit("no-cache-filter", "use --no-cache"),
    _buildkit("output", "use netkit save, or netkit create and netkit export", short="o"),
    _buildkit("policy", _NONE),
    _buildkit("print", f"nothing but builds are made, {_NONE}"),
    _buildkit("provenance", f"no attestations are made, {_NONE}"),
    _buildkit("push", "use netkit push after the build", kind="bool"),
    _buildkit("sbom", f"no attestations are made, {_NONE}"),
    _buildkit("secret", _STAGE),
    _buildkit("ssh", "clone outside, and COPY"),
)  # fmt: skip
BUILD = (
    *BUILDKIT,
    many("add-host", 'Add a custom host-to-IP mapping ("host:ip")', parse=values.extra_host),
    many("build-arg", "Set build-time variables"),
    many("cache-from", "Images to consider as cache sources", kind="strings",
         parse=values.comma_list),
    text("cgroup-parent", 'Set the parent cgroup for the "RUN" instructions during build'),
    switch("compress", "Compress the build context using gzip"),
    value("cpu-period", "int", values.integer,
          "Limit the CPU CFS (Completely Fair Scheduler) period", default=0),
    value("cpu-quota", "int", values.integer,
          "Limit the CPU CFS (Completely Fair Scheduler) quota", default=0),
    value("cpu-shares", "int", values.integer, "CPU shares (relative weight)", short="c",
          default=0),
    text("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    text("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    text("file", 'Name of the Dockerfile (Default is "PATH/Dockerfile")', short="f"),
    switch("force-rm", "Always remove intermediate containers"),
    text("iidfile", "Write the image ID to the file"),
    many("label", "Set metadata for an image", parse=values.label),
    value("memory", "bytes", values.size, "Memory limit", short="m", default=0),
    value("memory-swap", "bytes", values.swap,
          "Swap limit equal to memory plus swap: -1 to enable unlimited swap", default=0),
    text("network", "Set the networking mode for the RUN instructions during build",
         default="default"),
    switch("no-cache", "Do not use cache when building the image"),
    text("platform", "Set platform if server is multi-platform capable"),
    value("progress", "string", _progress, "Type of progress output (auto, plain): both are"
          " the one there is", default="auto"),
    switch("pull", "Always attempt to pull a newer version of the image"),
    switch("quiet", "Suppress the build output and print image ID on success", short="q"),
    switch("rm", "Remove intermediate containers after a successful build", default=True),
    many("security-opt", "Security options", kind="strings", parse=values.comma_list),
    value("shm-size", "bytes", values.size, 'Size of "/dev/shm"', default=0),
    switch("squash", "Squash newly built layers into a single new layer"),
    many("tag", 'Name and optionally a tag in the "name:tag" format', short="t", parse=_reference),
    text("target", "Set the target build stage to build."),
    many("ulimit", "Ulimit options", kind="ulimit", parse=values.ulimit),
)  # fmt: skip


@command("[OPTIONS] PATH | URL | -", exactly(1), *BUILD)
def build(session: Session, options: Options) -> None:
    if options.flag("squash"):
        raise Failure(
            '"--squash" is only supported on a Docker daemon with experimental features enabled'
        )
    _forget(options.text("iidfile"))
    context = prepare(options.args[0], options.text("file"))
    session.engine.negotiate()
    query = {**_query(options), "dockerfile": context.dockerfile, "remote": context.remote}
    body = context.body
    if body is not None:
        body = compressed(body) if options.flag("compress") else body
        body = body if options.flag("quiet") else counted(body, _Sent().show)
    answer = session.engine.stream("POST", "/build", query, body, _logins())
    found = _Messages(session.engine.objects(answer))
    _show(found, quiet=options.flag("quiet"))
    if name := options.text("iidfile"):
        _write(name, found.image)


def _forget(name: str) -> None:
    """A stale file must not outlive a build that fails."""
    if name:
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Failure(f"removing image ID file: remove {name}: {error.strerror}") from None


def _write(name: str, image: str) -> None:
    if not image:
        raise Failure(f"server did not provide an image ID. Cannot write {name}")
    with open(name, "w") as file:
        file.write(image)


def _logins() -> Mapping[str, str]:
    from netkit.cli.logins import for_build

    return for_build()


def _query(options: Options) -> dict[str, object]:
    """As docker's client: what was not given is not said."""
    network = options.text("network")
    arguments = {key: given for key, given in map(_argument, options.texts("build-arg"))}
    return {
        "version": "1",
        "t": options.texts("tag"),
        "q": options.flag("quiet"),
        "nocache": options.flag("no-cache"),
        "forcerm": options.flag("force-rm"),
        "rm": "" if options.flag("rm") else "0",
        "pull": options.flag("pull"),
        "target": options.text("target"),
        "platform": options.text("platform"),
        "networkmode": "" if network == "default" else network,
        "extrahosts": options.texts("add-host"),
        "securityopt": options.texts("security-opt"),
        "memory": options.number("memory") or "",
        "memswap": options.number("memory-swap") or "",
        "cpushares": options.number("cpu-shares") or "",
        "cpuperiod": options.number("cpu-period") or "",
        "cpuquota": options.number("cpu-quota") or "",
        "cpusetcpus": options.text("cpuset-cpus"),
        "cpusetmems": options.text("cpuset-mems"),
        "cgroupparent": options.text("cgroup-parent"),
        "shmsize": options.number("shm-size") or "",
        "buildargs": _json(arguments),
        "labels": _json(values.pairs(options.texts("label"))),
        "cachefrom": _json(options.texts("cache-from")),
        "ulimits": _json(_ulimits(options)),
    }


def _argument(given: str) -> tuple[str, str | None]:
    """NAME=VALUE; a bare NAME has its value from the environment, or none."""
    name, equals, said = given.partition("=")
    return name, said if equals else os.environ.get(name)


def _ulimits(options: Options) -> list[Json]:
    by_name = {str(each["Name"]): each for each in options.all("ulimit", dict)}
    return [
        {key: by_name[name][key] for key in ("Name", "Hard", "Soft")} for name in sorted(by_name)
    ]


def _json(given: Mapping[str, object] | list[str] | list[Json]) -> str:
    import json

    if not given:
        return ""
    ordered = dict(sorted(given.items())) if isinstance(given, Mapping) else given
    return json.dumps(ordered, separators=(",", ":"), ensure_ascii=False)


class _Sent:
    """How much of the context has been sent: its size at the end, and on a terminal meanwhile."""

    def __init__(self) -> None:
        self._redraw, self._told = sys.stdout.isatty(), 0.0

    def show(self, size: int, ended: bool) -> None:
        import time

        if not ended and not (self._redraw and time.monotonic() - self._told > REDRAW):
            return
        self._told = time.monotonic()
        line = f"Sending build context to Docker daemon {human.size(size, 4):>8}\r"
        sys.stdout.write(line + "\r\n" * ended)
        sys.stdout.flush()


class _Messages:
    """The stream; remembers the last image it names."""

    def __init__(self, source: Iterable[Json]) -> None:
        self._source = source
        self.image = ""

    def __iter__(self) -> Iterator[Json]:
        for message in self._source:
            found = message.get("aux")
            if isinstance(found, dict) and isinstance(found.get("ID"), str):
                self.image = found["ID"]
            yield message


def _show(found: _Messages, *, quiet: bool) -> None:
    """All of it; with -q the image alone, and what was said before an error."""
    if not quiet:
        progress.show(found)
        return
    said: list[str] = []
    try:
        for message in found:
            if message.get("errorDetail") or message.get("error"):
                progress.show([message])
            said.append(str(message.get("stream", "")))
    except Failure:
        sys.stderr.write("".join(said))
        raise
    found.image = found.image or "".join(said).strip()
    sys.stdout.write("".join(said))
