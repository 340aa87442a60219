"""Only errors that mean absence are taken for absence: all other errors are raised."""

from __future__ import annotations

import ast
import errno
import os
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from netkit import portallocator
from netkit.gone import GONE, gone, if_there
from runtime.filetree import walk
from runtime.filetree.scoped_root import Root
from runtime.rootfs import diff, tar_out
from runtime.tar.attributes import FolderTimes
from tests.stages import CLONE

CLOSED = "the other end has closed, whatever the error: the stream is over"
EMPTY_ONLY = "rmdir(2) refuses what is not empty; what stays is removed by the next who tries"
SHOWN = "only shown; it can be left out"
GUESS = "a default will do"
# Where any error of the system is handled alike, and why that is right.
ALL_ALIKE = {
    "netkit/cli/cp.py::_local": "writing there fails later, with the reason",
    "netkit/cli/forward.py::_tell": "the container has ended, or the daemon has; both are reported",
    "netkit/cli/pump.py::Pump._flush": CLOSED,
    "netkit/cli/pump.py::Pump._half_close": CLOSED,
    "netkit/cli/pump.py::Pump._receive": CLOSED,
    "netkit/cli/pump.py::Pump._send": CLOSED,
    "netkit/cli/pump.py::Pump._take": CLOSED,
    "netkit/cli/session.py::Session.columns": GUESS,
    "netkit/cli/terminal.py::size": GUESS,
    "netkit/frontends/cni/program.py::_request": "netkitd looks at the namespace itself",
    "netkit/kernel/ovs/vswitchd.py::Vswitchd.runs": "then it is asked",
    "netkit/kernel/port_socket.py::_program": "bpf(2) has many errors; the classic filter is used",
    "netkit/dns/client.py::Resolver._wait": CLOSED,
    "netkit/overlay/fabric/fabric.py::_filtering": "a kernel without nf_tables; then no fastdp",
    "netkit/overlay/fabric/watch.py::Watch.__init__": "a kernel without nf_tables; then no fastdp",
    "netkit/overlay/main.py::_core": "without a machine's id a copied state is not noticed",
    "netkit/overlay/probes.py::Probes.listen": "the device is gone; its network is told anew",
    "netkit/overlay/probes.py::_index": "the device is gone; its network is told anew",
    "netkit/overlay/control_socket.py::ControlSocket._read": "the ICMP error of one sent before",
    "netkit/overlay/client.py::listens": "without a connection there is no process to ask",
    "netkit/overlay/running.py::Running._children": "it has ended, and so needs no kill",
    "netkit/overlay/running.py::Running.find": "without a pid to open there is no such process",
    "netkit/overlay/running.py::_has_open": "it has ended, or is another user's: not the overlay's",
    "netkit/overlay/running.py::_parent": "it has ended, and so needs no kill",
    "netkit/overlay/server.py::Client._flush": CLOSED,
    "netkit/overlay/server.py::Client._read": CLOSED,
    "netkit/overlay/server.py::Server._accept": CLOSED,
    "netkit/overlay/user_plane.py::UserPlane._shimmed": "a lost datagram",
    "netkit/overlay/user_plane.py::UserPlane.inject": "a lost datagram",
    "netkit/overlay/vxlan_probe.py::Listener.read": "a lost probe",
    "netkit/overlay/sleeve/plane.py::Plane.sources": "a worker that ends, which is noticed as such",
    "netkit/overlay/sleeve/receive.py::Receiver._into": "a lost frame, and counted",
    "netkit/overlay/sleeve/worker.py::Receive._found": "it is reported with the next change",
    "netkit/dns/listen.py::Conversation._ready": CLOSED,
    "netkit/dns/listen.py::Station._connections": CLOSED,
    "netkit/dns/listen.py::Station._datagrams": "the client asks again",
    "netkit/dns/listen.py::_sender.reply": "the client asks again",
    "netkit/dns/process.py::Process.connect": "a new one is started, which fails with a reason",
    "netkit/dns/server.py::Server._accept": CLOSED,
    "netkit/dns/server.py::Server._serve": CLOSED,
    "netkit/kernel/ovs/idl.py::Connection._attempt": "tried again, until the time given is over",
    "netkit/kernel/iptables/tools.py::Tools._fingerprint": "without one, tables are read anew",
    "netkit/kernel/packet_filter.py::_library": "the next is tried; without any it is refused",
    "netkit/kernel/port_holders.py::_name": SHOWN,
    "netkit/kernel/port_holders.py::_process": SHOWN,
    "netkit/kernel/port_holders.py::holder": SHOWN,
    "netkit/kernel/run.py::PrestartedProgram.run": "the next call starts it, and raises",
    "netkit/lab/building.py::_down": EMPTY_ONLY,
    "netkit/lab/probe.py::Responder._answer": "the client asks again",
    "netkit/lab/probe.py::_said": "no ICMP error is queued",
    "netkit/kernel/relay/worker.py::Worker._serve": "who asked starts it anew",
    "netkit/kernel/relay/worker.py::_send": "a lost frame, and counted",
    "netkit/lab/relaying.py::Relay.report": "it does not answer, whatever the reason",
    "netkit/lab/stream.py::Stream._receive": "a lost probe",
    "netkit/lab/stream.py::Stream._run": "a lost probe",
    "netkit/ui/feed.py::Feed._look": "the stream is kept as well, which says so",
    "netkit/ui/feed.py::Feed.close": CLOSED,
    "netkit/ui/shell.py::_talk": "the page has gone; the shell ends with its connection",
    "netkit/lab/sweep.py::_remove_group": EMPTY_ONLY,
    "netkit/lab/sweep.py::_remove_groups": EMPTY_ONLY,
    "runtime/api/server/admission.py::_of_root": "who is not known to be root has no reserve",
    "runtime/registry/connection.py::resolve.ask": "a name without an address, whatever the reason",
    "runtime/lifecycle/archive.py::Looking.folders": SHOWN,
    "runtime/lifecycle/attach.py::ContainerAttachment._input": CLOSED,
    "runtime/daemon/process.py::_notify": "systemd does without, sd_notify(3)",
    "runtime/filetree/spread.py::spread": "a hint: nothing but time is lost",
    "runtime/oci/console.py::Console.end_input": CLOSED,
    "runtime/oci/cgroup_lock.py::CgroupLock._move_nowhere": "nothing but time is lost",
    "runtime/oci/cgroups.py::Cgroups.remove": EMPTY_ONLY,
    "runtime/oci/process_file.py::ProcessFiles.remove": "its bundle cannot be removed either",
    "runtime/oci/recent_starts.py::_program": "not known to be runc: signals are not held back",
    "runtime/oci/exec_session.py::sweep": EMPTY_ONLY,
    "runtime/oci/stats.py::_text": "controllers differ in what they have, and in their errors",
    "runtime/oci/subreaper.py::Subreaper.take": "answered: it never ran",
    "runtime/oci/subreaper.py::_pid": "answered: it never ran",
    "runtime/oci/versions.py::_said": SHOWN,
    "runtime/rootfs/init_layers.py::InitLayers.offer": "it stays the container's own",
}


class Handlers(ast.NodeVisitor):
    """Find functions with a handler of OSError that neither raises nor examines the error."""

    def __init__(self, file: str) -> None:
        self.found: set[str] = set()
        self._file, self._inside = file, list[str]()

    def _enter(self, node: Any) -> None:
        self._inside.append(node.name)
        self.generic_visit(node)
        self._inside.pop()

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _enter

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        inner = [part for step in node.body for part in ast.walk(step)]
        raises = any(isinstance(part, ast.Raise) for part in inner)
        looks = any(isinstance(part, ast.Name) and part.id == node.name for part in inner)
        if _catches(node.type) and not raises and not looks:
            self._add()
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if _name(node.func) == "suppress" and any(map(_catches, node.args)):
            self._add()
        self.generic_visit(node)

    def _add(self) -> None:
        self.found.add(f"{self._file}::{'.'.join(self._inside)}")


def _catches(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(_name(k) in {"OSError", "IOError", "EnvironmentError"} for k in kinds)


def _name(node: ast.expr | None) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def handlers() -> Iterator[str]:
    for part in ("netkit", "runtime", "plugins"):
        for file in sorted((CLONE / part).rglob("*.py")):
            visitor = Handlers(str(file.relative_to(CLONE)))
            visitor.visit(ast.parse(file.read_text()))
            yield from visitor.found


def test_no_handler_takes_every_error_for_absence() -> None:
    found = set(handlers())
    assert sorted(found - ALL_ALIKE.keys()) == [], "use netkit.gone, or say here why all are alike"
    assert sorted(ALL_ALIKE.keys() - found) == [], "there is no such handler any more"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EIO, errno.EACCES])
def test_other_errors_are_raised(number: int) -> None:
    assert not gone(OSError(number, ""))
    with pytest.raises(OSError, match="here") as caught, if_there():
        raise OSError(number, "here")
    assert caught.value.errno == number


@pytest.mark.parametrize("number", sorted(GONE))
def test_what_is_missing_is_left_out(number: int) -> None:
    assert gone(OSError(number, ""))
    with if_there():
        raise OSError(number, "there")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("text")
    return tmp_path


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """open(2) fails for names in it, with the error given there."""
    names: dict[str, int] = {}
    real = os.open

    def opened(path: Any, *args: Any, **options: Any) -> int:
        if number := names.get(str(path)):
            raise OSError(number, os.strerror(number), path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", opened)
    return names


def walked(tree: Path) -> list[str]:
    top = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return [entry.name for entry in walk.walk(top) if not entry.leaving]
    finally:
        os.close(top)


def packed(tree: Path) -> list[str]:
    with Root(tree) as root:
        text = b"".join(tar_out.export(root))
    return re.findall(r"\b(?:a/|a/b/|a/b/file)(?=\0)", text.decode("latin-1"))


def changed(tree: Path) -> list[str]:
    return [path for path, _ in diff.changes(tree, [])]


@pytest.mark.parametrize(("look", "name", "left"), [
    (walked, "b", ["a", "b"]),
    (packed, "b", ["a/", "a/b/"]),
    (packed, "file", ["a/", "a/b/"]),
    (changed, "b", ["/a", "/a/b"]),
])  # fmt: skip
def test_a_tree_is_read_without_what_is_missing_and_fails_for_all_else(
    tree: Path, failing: dict[str, int], look: Any, name: str, left: list[str]
) -> None:
    whole = look(tree)
    assert len(whole) == 3
    failing[name] = errno.ENOENT
    assert look(tree) == left
    failing[name] = errno.EMFILE
    with pytest.raises(OSError, match="Too many open files"):
        look(tree)


def test_ports_are_not_taken_for_free_where_the_kernel_cannot_be_asked(tmp_path: Path) -> None:
    assert portallocator.reserved_ports(tmp_path) == frozenset()
    (tmp_path / "ip_local_reserved_ports").mkdir()  # EISDIR
    with pytest.raises(IsADirectoryError):
        portallocator.reserved_ports(tmp_path)


@pytest.mark.parametrize(
    ("number", "whole"), [(errno.ENOENT, True), (errno.EXDEV, True), (errno.EIO, False)]
)
def test_a_layer_fails_if_the_time_of_a_folder_cannot_be_set(
    tmp_path: Path, number: int, whole: bool
) -> None:
    root = Mock(spec=Root)
    root.open.side_effect = OSError(number, os.strerror(number))
    with FolderTimes(tmp_path) as times:
        times.remember("folder", 0)
        with nullcontext() if whole else pytest.raises(OSError, match="Input/output error"):
            times.apply(root)
