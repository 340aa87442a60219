"""The measures of `bench.images`: each from a peer to samples, None if it cannot."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.image_content import Scale, fresh, steps
from bench.measures import Measure
from tests.engine.daemon import Engine
from tests.engine.wire import inside

REGISTRY = "127.0.0.1:5000"


@dataclass
class Tool:
    """A peer as commands; those it does not have are None."""

    name: str
    netns: str
    environment: Mapping[str, str]
    cli: tuple[str, ...] = ()  # docker's, with the address of the engine
    engine: Engine | None = None
    peaks: dict[str, float] = field(default_factory=dict)  # MiB over idle by measure

    def run(self, *argv: str, input: bytes | None = None, timeout: float = 900) -> bytes:
        done = subprocess.run(
            inside(self.netns, *argv), input=input, capture_output=True, timeout=timeout,
            env=dict(self.environment), check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(argv)}: {done.stderr.decode()[-500:]}")
        return done.stdout

    def docker(self, *argv: str, input: bytes | None = None) -> bytes:
        return self.run(*self.cli, *argv, input=input)


Sample = Callable[[Tool, Scale, Path], "list[float] | None"]  # None: it does not do this


def _timed(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def pull(tool: Tool, scale: Scale, folder: Path) -> list[float] | None:
    if tool.name == "skopeo":
        return [
            _storage(tool, folder, lambda args: ("copy", "--src-tls-verify=false",
                                                 f"docker://{REGISTRY}/big:1", args))
            for _ in range(scale.repeats)
        ]  # fmt: skip
    if not tool.cli:
        return None
    found = []
    for _ in range(scale.repeats):
        found.append(_timed(lambda: tool.docker("pull", "-q", f"{REGISTRY}/big:1")))
        tool.docker("rmi", f"{REGISTRY}/big:1")
    return found


def _storage(tool: Tool, folder: Path, argv: Callable[[str], Sequence[str]]) -> float:
    place = folder / "containers-storage"
    target = f"containers-storage:[overlay@{place}/root+{place}/run]big:1"
    took = _timed(lambda: tool.run("skopeo", *argv(target)))
    subprocess.run(["sh", "-c", f"umount -q {place}/root/overlay; rm -rf {place}"], check=False)
    return took


def push(tool: Tool, scale: Scale, folder: Path) -> list[float] | None:
    """Of an image that was made here: its layers have never been compressed."""
    archive = folder / "fresh.tar"
    found = []
    for n in range(scale.repeats):
        target = f"{REGISTRY}/new-{tool.name.replace(' ', '-')}-{n}:1"
        fresh(archive, scale, f"{tool.name} {n}")
        if tool.name == "skopeo":
            found.append(_timed(lambda t=target: tool.run(  # type: ignore[misc]
                "skopeo", "copy", "--dest-tls-verify=false", f"docker-archive:{archive}",
                f"docker://{t}")))  # fmt: skip
        elif tool.cli:
            tool.docker("load", "-q", "-i", str(archive))
            tool.docker("tag", "fresh:1", target)
            found.append(_timed(lambda t=target: tool.docker("push", "-q", t)))  # type: ignore[misc]
            tool.docker("rmi", "fresh:1", target)
        archive.unlink()
    return found or None


def build_cold(tool: Tool, scale: Scale, folder: Path) -> list[float] | None:
    return _builds(tool, scale, folder, "--no-cache")


def build_cached(tool: Tool, scale: Scale, folder: Path) -> list[float] | None:
    return _builds(tool, scale, folder)


def _builds(tool: Tool, scale: Scale, folder: Path, *flags: str) -> list[float] | None:
    words = ("-q", *flags, "-t", "app", str(folder / "context"))
    if tool.name == "buildah":
        argv: tuple[str, ...] = ("buildah", *storage_flags(folder), "build", "--layers", *words)
    elif tool.cli:
        argv = (*tool.cli, "build", *words)
    else:
        return None
    return [_timed(lambda: tool.run(*argv)) for _ in range(scale.repeats)]


def storage_flags(folder: Path) -> tuple[str, ...]:
    place = folder / "buildah"
    return ("--root", f"{place}/root", "--runroot", f"{place}/run", "--storage-driver", "overlay")


def trivial(tool: Tool, scale: Scale, folder: Path) -> list[float] | None:
    """Seconds a step."""
    if not tool.cli:
        return None
    found = [
        _timed(lambda: tool.docker("build", "-q", "--no-cache", "-t", "steps", "-",
                                   input=steps(scale)))
        for _ in range(max(1, scale.repeats // 2))
    ]  # fmt: skip
    return [took / scale.steps * 1000 for took in found]


def commit(tool: Tool, scale: Scale, folder: Path) -> list[float] | None:
    """Of a container that wrote 50 MiB in 200 files."""
    if not tool.cli:
        return None
    words = "mkdir /d; i=0; while [ $i -lt 200 ]; do head -c 262144 /dev/urandom >/d/$i; i=$((i+1)); done"  # noqa: E501
    found = []
    for n in range(scale.repeats):
        tool.docker("run", "--name", f"c{n}", "busybox", "sh", "-c", words)
        found.append(_timed(lambda n=n: tool.docker("commit", f"c{n}", f"committed{n}")))  # type: ignore[misc]
        tool.docker("rm", f"c{n}")
        tool.docker("rmi", f"committed{n}")
    return found


def save(tool: Tool, scale: Scale, folder: Path) -> list[float] | None:
    if not tool.cli:
        return None
    out = folder / "saved.tar"
    found = []
    tool.docker("load", "-q", "-i", str(folder / "big.tar"))
    for _ in range(scale.repeats):
        found.append(_timed(lambda: tool.docker("save", "-o", str(out), "big:1")))
        out.unlink()
    tool.docker("rmi", "big:1")
    return found


def load(tool: Tool, scale: Scale, folder: Path) -> list[float] | None:
    if not tool.cli:
        return None
    found = []
    for _ in range(scale.repeats):
        found.append(_timed(lambda: tool.docker("load", "-q", "-i", str(folder / "big.tar"))))
        tool.docker("rmi", "big:1")
    return found


def run_deep(tool: Tool, scale: Scale, folder: Path) -> list[float] | None:
    if not tool.cli:
        return None
    lines = "FROM busybox\n" + "".join(f"RUN echo {n} >/f{n}\n" for n in range(scale.deep - 1))
    tool.docker("build", "-q", "-t", "deep", "-", input=lines.encode())
    return [
        _timed(lambda: tool.docker("run", "--rm", "--network=none", "deep", "true")) * 1000
        for _ in range(scale.repeats * 3)
    ]


MEASURES: tuple[tuple[Measure, Sample], ...] = tuple(
    (Measure(name, unit, sample, aim, ratio), sample)  # type: ignore[arg-type]
    for name, unit, sample, aim, ratio in (
        ("pull of the large image", "s", pull, "1.0x skopeo", None),
        ("push of it, made here", "s", push, "1.0x skopeo", None),
        ("build, cold", "s", build_cold, "0.7x", 0.7),
        ("build, cached", "s", build_cached, "0.3x", 0.3),
        ("a RUN step that does nothing", "ms", trivial, "0.35x", 0.35),
        ("commit of 50 MiB", "s", commit, "", None),
        ("load of the large image", "s", load, "", None),
        ("save of it", "s", save, "", None),
        ("run from many layers", "ms", run_deep, "", None),
    )
)
