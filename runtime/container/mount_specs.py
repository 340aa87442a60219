"""Parse and validate one mount: `-v`, `--mount` or `--volumes-from`, in dockerd's words.  Pure."""

from __future__ import annotations

import posixpath

from netkit.errors import InvalidSpec
from runtime.container.config import (
    BindOptions,
    ImageOptions,
    Mount,
    TmpfsOptions,
    VolumeDriver,
    VolumeOptions,
)
from runtime.container.model import MountPoint

TYPES = ("bind", "volume", "image", "tmpfs", "cluster")  # that have options of their own
PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}
_MODES = (  # of each kind one word at most
    {"ro", "rw"}, {"z", "Z"}, PROPAGATIONS, {"nocopy"}, {"consistent", "cached", "delegated"},
)  # fmt: skip


def clean(path: str) -> str:
    """Normalize to one leading slash: normpath keeps two, since POSIX gives them a meaning."""
    return "/" + posixpath.normpath(path or "/").lstrip("/")


def short(text: str, driver: str) -> MountPoint:
    """Parse `SOURCE:TARGET[:MODE]` of -v; `driver` is that of --volume-driver.  InvalidSpec."""
    wrong = f"invalid volume specification: '{text}'"
    parts = text.split(":")
    if len(parts) not in {2, 3} or not all(parts[:2]):
        raise InvalidSpec(wrong)
    source, target = parts[0], parts[1]
    mode = parts[2] if len(parts) == 3 else ""
    if len(parts) == 2 and valid_mode(target):
        raise InvalidSpec(wrong)
    words = _words(mode)
    kind = "bind" if source.startswith("/") else "volume"
    asked = Mount(type=kind, source=source, target=target, read_only="ro" in words)
    if kind == "volume" and driver:
        asked.volume_options = VolumeOptions(driver_config=VolumeDriver(name=driver))
    if "nocopy" in words:
        asked.volume_options = asked.volume_options or VolumeOptions()
        asked.volume_options.no_copy = True
    if spread := [word for word in words if word in PROPAGATIONS]:
        asked.bind_options = BindOptions(propagation=spread[0])
    try:
        point = parse(asked)
    except InvalidSpec as error:
        raise InvalidSpec(f"{wrong}: {error}") from None
    # mode words of --mount do not apply: a missing source of a bind is created
    point.mode = mode or ("z" if kind == "volume" else "")
    return point


def parse(m: Mount) -> MountPoint:
    """Validate one `--mount`.  The bundle reads options of tmpfs from HostConfig.Mounts."""
    _check_options(m)
    makers = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "image": _image}
    if m.type not in makers:
        raise InvalidSpec(f"invalid mount config for type {m.type!r}: mount type unknown")
    _check_target(m)
    return makers[m.type](m)


def _wrong(m: Mount, what: str) -> InvalidSpec:
    return InvalidSpec(f'invalid mount config for type "{m.type}": {what}')


def _check_options(m: Mount) -> None:
    """Refuse options of another type of mount, as dockerd 28 does.  InvalidSpec."""
    for kind in TYPES:
        if m.type != kind and m.type in TYPES and getattr(m, f"{kind}_options") is not None:
            raise _wrong(m, f"field {kind.title()}Options must not be specified")


def _check_target(m: Mount) -> None:
    if not m.target:
        raise _wrong(m, "field Target must not be empty")
    if not m.target.startswith("/"):
        raise _wrong(m, f"invalid mount path: '{m.target}' mount path must be absolute")
    if clean(m.target) == "/":
        raise _wrong(m, "invalid specification: destination can't be '/'")


def _tmpfs(m: Mount) -> MountPoint:
    if m.source:
        raise _wrong(m, "field Source must not be specified")
    tmpfs_words(m)
    return MountPoint(type="tmpfs", destination=clean(m.target), rw=not m.read_only)


def _volume(m: Mount) -> MountPoint:
    """Its driver is the one asked for, until it is known that there is one."""
    if not m.source and m.read_only:
        raise _wrong(m, "must not set ReadOnly mode when using anonymous volumes")
    options = m.volume_options or VolumeOptions()
    return MountPoint(
        type="volume",
        name=m.source,
        destination=clean(m.target),
        driver=options.driver_config.name if options.driver_config else "",
        mode="z",  # as dockerd shows those without a mode of their own
        rw=not m.read_only,
        anonymous=not m.source,
        no_copy=options.no_copy,
        subpath=_subpath(m, options.subpath, "volume"),
    )


def _image(m: Mount) -> MountPoint:
    if not m.source:
        raise _wrong(m, "field Source must not be empty")
    options = m.image_options or ImageOptions()
    return MountPoint(
        type="image",
        name=m.source,
        destination=clean(m.target),
        rw=False,
        subpath=_subpath(m, options.subpath, "image"),
    )


def _subpath(m: Mount, path: str, what: str) -> str:
    if path and (path.startswith("/") or posixpath.normpath(path).split("/")[0] == ".."):
        raise _wrong(m, f"subpath must be a relative path within the {what}")
    if "\0" in path:
        raise _wrong(m, "a NUL character in the subpath")
    return posixpath.normpath(path) if path else ""


def _bind(m: Mount) -> MountPoint:
    if not m.source:
        raise _wrong(m, "field Source must not be empty")
    if not m.source.startswith("/"):
        raise _wrong(m, f"invalid mount path: '{m.source}' mount path must be absolute")
    options = m.bind_options or BindOptions()
    spread = options.propagation or "rprivate"
    if spread not in PROPAGATIONS:
        raise _wrong(m, f"invalid propagation mode: {spread}")
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


def volumes_from(text: str) -> tuple[str, bool]:
    """Parse `CONTAINER[:MODE]`: (container, may its mounts be written).  InvalidSpec."""
    if not text:
        raise InvalidSpec("volumes-from specification cannot be an empty string")
    ref, _, mode = text.partition(":")
    words = _words(mode)
    if {"nocopy", *PROPAGATIONS} & set(words):
        raise InvalidSpec(f"invalid mode: {mode}")
    return ref, "ro" not in words


def valid_mode(mode: str) -> bool:
    try:
        _words(mode)
    except InvalidSpec:
        return False
    return True


def _words(mode: str) -> list[str]:
    words = mode.split(",") if mode else []
    if any(not any(word in kind for kind in _MODES) for word in words) or any(
        sum(word in kind for word in words) > 1 for kind in _MODES
    ):
        raise InvalidSpec(f"invalid mode: {mode}")
    return words
