"""All mounts of a container, as a client asks for them.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netkit.errors import InvalidSpec, NotFound
from runtime.container import mount_specs
from runtime.container.config import Config, HostConfig
from runtime.container.model import Container, MountPoint
from runtime.container.mount_specs import clean, tmpfs_words

# Marks of --mount in the mode of a bind, which are not shown
MARKS = frozenset(
    {"mount", "nonrecursive", "create", "readonlynonrecursive", "readonlyforcerecursive"}
)


def mount_points(
    config: Config,
    host: HostConfig,
    inherited: Sequence[MountPoint] = (),
    *,
    recursive: bool = True,
) -> list[MountPoint]:
    """All mounts, at distinct destinations: those of other containers, -v, --mount, VOLUME.

    The later replaces the earlier of another kind, as in dockerd.  InvalidSpec.  `recursive`:
    read-only binds of the short form make what is mounted below read-only, too.
    """
    binds = [mount_specs.short(text, host.volume_driver) for text in host.binds or ()]
    for point in binds:
        if point.type == "bind":
            point.propagation = point.propagation or "rprivate"
            if not recursive:
                point.mode = ",".join(w for w in (point.mode, "readonlynonrecursive") if w)
    asked = [*binds, *map(mount_specs.parse, host.mounts or ())]
    _check_places(*(p.destination for p in asked), *map(clean, host.tmpfs or ()))
    found = {p.destination: p for p in (*inherited, *asked)}
    memory = set(map(clean, host.tmpfs or ()))
    for target in config.volumes or {}:
        place = clean(f"/{target}")
        if place != "/" and place not in found.keys() | memory:
            found[place] = MountPoint(
                type="volume", destination=place, driver=host.volume_driver, anonymous=True
            )
    return list(found.values())


def inherit(
    host: HostConfig, find: Callable[[str], Container]
) -> list[MountPoint]:
    """Mounts of --volumes-from, which include those that the other container has inherited.

    InvalidSpec, also for a container that does not exist, as dockerd.  A tmpfs is not inherited.
    """
    found = []
    for text in host.volumes_from or ():
        ref, writable = mount_specs.volumes_from(text)
        try:
            other = find(ref)
        except NotFound as error:
            raise InvalidSpec(str(error)) from None
        found += [_copied(p, writable) for p in other.mounts if p.type != "tmpfs"]
    return found


def _copied(p: MountPoint, writable: bool) -> MountPoint:
    return MountPoint(
        type=p.type,
        source=p.source,
        destination=p.destination,
        mode=",".join(word for word in p.mode.split(",") if word in MARKS),
        rw=p.rw and writable,
        propagation=p.propagation,
        name=p.name,
        driver=p.driver,
        anonymous=p.anonymous,
        no_copy=True,
        subpath=p.subpath,
        image=p.image,
    )


def _check_places(*places: str) -> None:
    """InvalidSpec for duplicates."""
    taken: set[str] = set()
    for place in places:
        if place in taken:
            raise InvalidSpec(f"Duplicate mount point: {place}")
        taken.add(place)


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
