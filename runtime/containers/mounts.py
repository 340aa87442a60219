"""What is mounted into a container: `-v`, `--mount` and `--tmpfs` as a client sends them.  Pure."""

from __future__ import annotations

import posixpath

from netkit.errors import InvalidSpec, NotSupported
from runtime.containers.config import Config, HostConfig, Mount
from runtime.containers.model import MountPoint

PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}


def points(config: Config, host: HostConfig, warnings: list[str]) -> list[MountPoint]:
    """All of them, each at a place of its own; adds to `warnings`.  InvalidSpec, NotSupported."""
    wanted = [_bind(text) for text in host.binds or ()]
    wanted += [_mount(m) for m in host.mounts or ()]
    taken: set[str] = set()
    for target in [*(p.destination for p in wanted), *(host.tmpfs or {})]:
        clean = posixpath.normpath(target)
        if clean in taken:
            raise InvalidSpec(f"Duplicate mount point: {clean}")
        taken.add(clean)
    for target in config.volumes or {}:
        if posixpath.normpath(target) not in taken:
            warnings.append(
                f"volume {target} lives in the container's own layer: volumes are not supported yet"
            )
    return wanted


def _bind(text: str) -> MountPoint:
    """`SOURCE:TARGET[:OPTIONS]`, the short form of -v."""
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
        source=posixpath.normpath(source),
        destination=posixpath.normpath(target),
        mode=",".join(options),
        rw="ro" not in options,
        propagation=spread[0] if spread else "rprivate",
    )


def _mount(m: Mount) -> MountPoint:
    """One `--mount`.  tmpfs mounts are given to the bundle from HostConfig.Mounts as they are."""
    if m.type not in {"bind", "tmpfs"}:
        if m.type == "volume":
            raise NotSupported("--mount type=volume: volumes are not supported yet")
        raise InvalidSpec(f"invalid mount config for type {m.type!r}: mount type unknown")
    _check_target(m.target, f"--mount type={m.type}")
    if m.type == "tmpfs":
        if m.source:
            raise InvalidSpec('invalid mount config for type "tmpfs": source is not allowed')
        return MountPoint(type="tmpfs", destination=posixpath.normpath(m.target),
                          rw=not m.read_only)  # fmt: skip
    if not m.source.startswith("/"):
        raise InvalidSpec(
            f"invalid mount config for type \"bind\": invalid mount path: '{m.source}' mount "
            "path must be absolute"
        )
    options = m.bind_options or {}
    if unknown := set(options) - {"Propagation", "NonRecursive", "CreateMountpoint"}:
        raise NotSupported(f"--mount type=bind: {sorted(unknown)[0]} is not supported yet")
    spread = options.get("Propagation") or "rprivate"
    if spread not in PROPAGATIONS:
        raise InvalidSpec(f"invalid propagation mode {spread!r} of bind mount {m.target}")
    return MountPoint(
        type="bind",
        source=posixpath.normpath(m.source),
        destination=posixpath.normpath(m.target),
        mode="mount" + (",nonrecursive" if options.get("NonRecursive") else "")
        + (",create" if options.get("CreateMountpoint") else ""),
        rw=not m.read_only,
        propagation=spread,
    )  # fmt: skip


def _check_target(target: str, where: str) -> None:
    if not target.startswith("/"):
        raise InvalidSpec(
            f"invalid mount path: '{target}' mount path must be absolute (in {where})"
        )
    if posixpath.normpath(target) == "/":
        raise InvalidSpec(f"invalid specification: destination can't be '/' (in {where})")
