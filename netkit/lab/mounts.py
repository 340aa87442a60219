"""A mount namespace of a host's own, for engines whose folders are the same on every machine.

dockerd looks for plugins in /run/docker/plugins; podman makes a mount point of /run/netns, and
keeps results of CNI below /var/lib/cni.  On a host with such an engine these are its own:
everything that runs there, netkitd as well, has a /run, a /var/lib and a /dev/shm that hold what
the machine's have, but for what is the engines'.  The namespace is held by a file below the host's
folder, and ends with it and with the host's last process.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.lab.model import Places

SECONDS = 20.0
HIDDEN = {
    "/run": "containerd containers crun docker docker.pid docker.sock libpod lock log netns podman"
    " runc syslog xtables.lock",
    "/var/lib": "cni containerd containers docker",
}
# Arguments: triples of a folder, what is hidden of it, and a folder elsewhere to keep it meanwhile.
SCRIPT = """
set -e
mkdir -p "$3"
mount --rbind /sys/fs/cgroup "$3"
mount -t sysfs sysfs /sys -o nosuid,nodev,noexec
mount --rbind "$3" /sys/fs/cgroup
umount -l "$3"
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
while [ $# -gt 0 ]; do
    old=$3
    mkdir -p "$old"
    mount --rbind "$1" "$old"
    mount -t tmpfs -o mode=755 tmpfs "$1"
    for path in "$old"/* "$old"/.[!.]*; do
        name=${path##*/}
        case " $2 " in *" $name "*) continue ;; esac
        if [ -L "$path" ]; then
            cp -P "$path" "$1/$name"
        elif [ -d "$path" ]; then
            mkdir -p "$1/$name"
            mount --rbind "$path" "$1/$name"
        elif [ -e "$path" ]; then
            : >"$1/$name"
            mount --bind "$path" "$1/$name"
        fi
    done
    umount -l "$old"
    rmdir "$old"
    shift 3
done
mkdir -p /run/docker/plugins /run/lock /run/log /run/netns /var/lib/cni
"""


def establish(places: Places, host: str) -> None:
    """Make the host's mount namespace, unless it is there.  KernelError if that fails.

    The host's network namespace exists: /sys is of it.
    """
    file = places.mounts(host)
    if netns.exists(file):
        return
    folder = os.path.dirname(file)
    kept = (f"{places.root(host)}/old", f"{places.run(host)}/old")  # not below what is hidden
    for path in (folder, places.root(host)):
        os.makedirs(path, mode=0o711, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    # mount_namespaces(7): a namespace cannot be held by a file on a mount that is shared.
    private = f'mountpoint -q "{folder}" || mount --bind --make-private "{folder}" "{folder}"'
    triples = [(*pair, old) for pair, old in zip(HIDDEN.items(), kept, strict=True)]
    hidden = [word for triple in triples for word in triple]
    with netns.inside(places.netns(host)):
        _run(["sh", "-c", private])
        made = ["unshare", f"--mount={file}", "--propagation", "slave"]
        _run([*made, "sh", "-c", SCRIPT, "sh", *hidden])


def _run(words: Sequence[str]) -> None:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise KernelError(f"cannot make a mount namespace: {done.stderr.strip()}")


def entered(places: Places, host: str, words: Sequence[str]) -> list[str]:
    """The command, run in the host's namespaces and in the same folder; [] if it has no such own.

    All at once: where a mount namespace is copied, as `ip netns exec` does, files that hold others
    are left out.
    """
    file = places.mounts(host)
    if not netns.exists(file):
        return []
    enter = ["nsenter", f"--net={places.netns(host)}", f"--mount={file}"]
    return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', os.getcwd(), *words]
