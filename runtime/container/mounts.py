"""Parse and validate mounts: `-v`, `--mount` and `--tmpfs` as a client sends them.  Pure."""

from __future__ import annotations

import posixpath

from netkit.errors import InvalidSpec, NotSupported
from runtime.container.config import BindOptions, Config, HostConfig, Mount, TmpfsOptions
from runtime.container.model import MountPoint

TYPES = ("bind", "volume", "image", "tmpfs", "cluster")  # that have options of their own
PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}


def mount_points(
    config: Config, host: HostConfig, warnings: list[str], *, recursive: bool = True
) -> list[MountPoint]:
    """All mounts, at distinct destinations; adds to `warnings`.  InvalidSpec, NotSupported.

    `recursive`: read-only binds of the short form make what is mounted below read-only, too.
    """
    wanted = [_bind(text) for text in host.binds or ()]
    if not recursive:
        for point in wanted:
            point.mode = ",".join(w for w in (point.mode, "readonlynonrecursive") if w)
    unnamed: list[Mount] = []
    for m in host.mounts or ():
        _check_options(m)
        if m.type == "volume" and not m.source:
            _anonymous(m)
            unnamed.append(m)
        else:
            wanted.append(_mount(m))
    taken = _places(*(p.destination for p in wanted), *(host.tmpfs or {}))
    _places(*taken, *(m.target for m in unnamed))
    volumes = [*(config.volumes or {}), *(m.target for m in unnamed)]
    config.volumes = {key: {} for key in volumes} or None
    for target in volumes:
        if clean(target) not in taken:
            warnings.append(
                f"volume {target} lives in the container's own layer: volumes are not supported yet"
            )
    return wanted


def _places(*targets: str) -> set[str]:
    """Normalized destinations.  InvalidSpec for duplicates."""
    taken: set[str] = set()
    for place in map(clean, targets):
        if place in taken:
            raise InvalidSpec(f"Duplicate mount point: {place}")
        taken.add(place)
    return taken


def clean(path: str) -> str:
    """Normalize to one leading slash: normpath keeps two, since POSIX gives them a meaning."""
    return "/" + posixpath.normpath(path or "/").lstrip("/")


def _check_options(m: Mount) -> None:
    """Refuse options of another type of mount, as dockerd 28 does.  InvalidSpec."""
    for kind in TYPES:
        if m.type != kind and m.type in TYPES and getattr(m, f"{kind}_options") is not None:
            raise InvalidSpec(
                f'invalid mount config for type "{m.type}": field {kind.title()}Options must not '
                f"be specified (mount of {m.target})"
            )


def _anonymous(m: Mount) -> None:
    """Check a `--mount type=volume` without a source: compose v2 sends `-v TARGET` as that."""
    _check_target(m.target, "--mount type=volume")
    options = {name: value for name, value in (m.volume_options or {}).items() if value}
    if m.read_only or set(options) - {"NoCopy", "Labels"}:
        what = "readonly" if m.read_only else sorted(set(options) - {"NoCopy", "Labels"})[0]
        raise NotSupported(f"--mount type=volume of {m.target}: {what} is not supported")


def _bind(text: str) -> MountPoint:
    """Parse `SOURCE:TARGET[:OPTIONS]`, the short form of -v."""
    parts = text.split(":")
    if len(parts) < 2 or len(parts) > 3 or not parts[1]:
        raise InvalidSpec(f"invalid volume specification: '{text}'")
    source, target = parts[0], parts[1]
    if not source.startswith("/"):
        raise NotSupported(
            f"invalid volume specification: '{text}': named volumes are not supported yet; "
            "give an absolute path on the host"
        )
    options = parts[2].split(",") if len(parts) == 3 else []
    _check_target(target, text)
    known = {"ro", "rw", "z", "Z", "consistent", "cached", "delegated", "nocopy", *PROPAGATIONS}
    if unknown := [o for o in options if o not in known]:
        raise InvalidSpec(f"invalid mode: {','.join(options)}: unknown {unknown[0]!r}")
    spread = [o for o in options if o in PROPAGATIONS]
    return MountPoint(
        type="bind",
        source=clean(source),
        destination=clean(target),
        mode=",".join(options),
        rw="ro" not in options,
        propagation=spread[0] if spread else "rprivate",
    )


def _mount(m: Mount) -> MountPoint:
    """Validate one `--mount`.  The bundle reads options of tmpfs from HostConfig.Mounts."""
    if m.type not in {"bind", "tmpfs"}:
        if m.type == "volume":
            raise NotSupported("--mount type=volume: volumes are not supported yet")
        raise InvalidSpec(f"invalid mount config for type {m.type!r}: mount type unknown")
    _check_target(m.target, f"--mount type={m.type}")
    if m.type == "tmpfs":
        if m.source:
            raise InvalidSpec('invalid mount config for type "tmpfs": source is not allowed')
        tmpfs_words(m)
        return MountPoint(type="tmpfs", destination=clean(m.target),
                          rw=not m.read_only)  # fmt: skip
    if not m.source.startswith("/"):
        raise InvalidSpec(
            f"invalid mount config for type \"bind\": invalid mount path: '{m.source}' mount "
            "path must be absolute"
        )
    options = m.bind_options or BindOptions()
    spread = options.propagation or "rprivate"
    if spread not in PROPAGATIONS:
        raise InvalidSpec(f"invalid propagation mode {spread!r} of bind mount {m.target}")
    _check_recursion(m, options, spread)
    marks = {
        "nonrecursive": options.non_recursive,
        "create": options.create_mountpoint,
        "readonlynonrecursive": options.read_only_non_recursive,
        "readonlyforcerecursive": options.read_only_force_recursive,
    }
    return MountPoint(
        type="bind",
        source=clean(m.source),
        destination=clean(m.target),
        mode=",".join(["mount", *(mark for mark, given in marks.items() if given)]),
        rw=not m.read_only,
        propagation=spread,
    )  # fmt: skip


def _check_recursion(m: Mount, options: BindOptions, spread: str) -> None:
    """Check `bind-recursive=` of --mount by dockerd's rules."""
    where = f"bind mount {m.target}"
    if options.read_only_non_recursive and not m.read_only:
        raise InvalidSpec(f"{where}: ReadOnlyNonRecursive needs a read-only mount (readonly)")
    if not options.read_only_force_recursive:
        return
    if not m.read_only:
        raise InvalidSpec(f"{where}: ReadOnlyForceRecursive needs a read-only mount (readonly)")
    if options.read_only_non_recursive or options.non_recursive:
        raise InvalidSpec(f"{where}: ReadOnlyForceRecursive contradicts a non-recursive mount")
    if spread != "rprivate":
        raise InvalidSpec(f"{where}: ReadOnlyForceRecursive needs bind-propagation=rprivate")


def temporary(host_config: HostConfig) -> dict[str, list[str]]:
    """Options of each tmpfs, as for mount(8), by destination."""
    found = {
        target: [word for word in options.split(",") if word]
        for target, options in (host_config.tmpfs or {}).items()
    }
    for m in host_config.mounts or ():
        if m.type == "tmpfs":
            found[m.target] = tmpfs_words(m)
    return found


def tmpfs_words(m: Mount) -> list[str]:
    """Convert the options of a tmpfs of `--mount` to those of mount(8).  InvalidSpec."""
    options = m.tmpfs_options or TmpfsOptions()
    if options.size_bytes < 0:
        raise InvalidSpec(f"tmpfs {m.target}: size {options.size_bytes} is negative")
    if not 0 <= options.mode <= 0o7777:
        raise InvalidSpec(f"tmpfs {m.target}: mode {options.mode:o} is not a file mode (0 to 7777)")
    words = [f"size={options.size_bytes}"] if options.size_bytes else []
    words += [f"mode={options.mode:o}"] if options.mode else []
    for pair in options.options or ():
        if len(pair) not in {1, 2} or not all(pair) or any("," in word for word in pair):
            raise InvalidSpec(f"tmpfs {m.target}: option {pair!r}: give [FLAG] or [KEY, VALUE]")
        words.append("=".join(pair))
    if m.read_only:
        words.append("ro")
    return words


def _check_target(target: str, where: str) -> None:
    if not target.startswith("/"):
        raise InvalidSpec(
            f"invalid mount path: '{target}' mount path must be absolute (in {where})"
        )
    if clean(target) == "/":
        raise InvalidSpec(f"invalid specification: destination can't be '/' (in {where})")
