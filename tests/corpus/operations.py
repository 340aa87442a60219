"""Operations of cases: each is done, and gives a result that can be compared."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import tarfile
import tempfile
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.corpus.normal import Normal, lines
from tests.corpus.talking import Daemon, objects
from tests.corpus.trees import MTIME, compressed, make_folder, make_tar

CLI = os.environ.get("NKC_DOCKER", "docker")
PORT = int(os.environ.get("NKC_PORT", "18099"))  # of the server for ADD
_AGAIN = "\x1b[0m\x1b[91m"  # the end of red, and red again
_KINDS = {
    tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink", tarfile.FIFOTYPE: "fifo", tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}  # fmt: skip
_DEPRECATED = re.compile(
    r"(DEPRECATED: The legacy builder|\s+(Install|BuildKit is currently) |\s+environment-variable)"
)
_OF_THE_RUNTIME = re.compile(
    r"(dev|proc|sys)(/|$)|etc/(hosts|hostname|resolv.conf|mtab)$|\.dockerenv$"
)

Operation = Mapping[str, Any]


class Case:
    def __init__(self, daemon: Daemon, spec: Mapping[str, Any], scratch: str) -> None:
        self.daemon, self.spec, self._scratch = daemon, spec, scratch
        self.normal = Normal(scratch)
        self.last = ""  # id or name of the image or container made last
        self.folder = tempfile.mkdtemp(dir=scratch)
        self._saved: dict[str, bytes] = {}

    def run(self) -> list[Any]:
        return [getattr(self, f"op_{op['op']}")(op) for op in self.spec["ops"]]

    def _tree(self, op: Operation) -> dict[str, Any]:
        tree = dict(op["ctx"] if "ctx" in op else self.spec.get("ctx", {}))
        tree |= op.get("ctx+", {})
        for name in op.get("ctx-", []):
            del tree[name]
        text = op.get("dockerfile", self.spec.get("dockerfile"))
        name = op.get("file", "Dockerfile")
        if text is not None and name not in tree:
            tree[name] = "\n".join(text) + "\n" if isinstance(text, list) else text
        return tree

    # builds

    def op_build(self, op: Operation) -> Any:
        """Through the API with an archive, or with the CLI ("via": "cli")."""
        tree, tag = self._tree(op), op.get("tag", "nkc/t")
        if op.get("via") == "cli":
            root = tempfile.mkdtemp(dir=self.folder)
            make_folder(tree, Path(root))
            found = self._cli(
                ["build", *(["-t", tag] if tag else []), *op.get("args", []), "."], cwd=root
            )
            self.last = tag or ""
            return found
        query: dict[str, Any] = {"rm": "1", **({"t": tag} if tag else {})}
        for name, value in op.get("query", {}).items():
            is_json = isinstance(value, dict) or (isinstance(value, list) and name == "cachefrom")
            query[name] = json.dumps(value) if is_json else value
        if "file" in op and op["file"] != "Dockerfile":
            query["dockerfile"] = op["file"]
        data = compressed(make_tar(tree), op.get("compress"))
        if "raw" in op:
            data = base64.b64decode(op["raw"])
        status, body = self.daemon.tar("/build", data, query)
        if status != 200:
            return {"status": status, "ok": False, "message": self._message(body)}
        return {"status": status, **self._streamed(objects(body))}

    def _message(self, body: bytes) -> str:
        try:
            return self.normal.text(json.loads(body)["message"])
        except (ValueError, KeyError):
            return self.normal.text(body.decode("utf-8", "replace"))

    def _streamed(self, messages: Sequence[Any]) -> dict[str, Any]:
        # a line that a command writes in two parts may come as one or as two
        text = "".join(m["stream"] for m in messages if "stream" in m).replace(_AGAIN, "")
        errors = [m for m in messages if "errorDetail" in m or "error" in m]
        ids = [m["aux"]["ID"] for m in messages if "ID" in (m.get("aux") or {})]
        stream = [self.normal.text(line) for line in lines(text)]
        while stream and not stream[-1]:
            stream.pop()
        found: dict[str, Any] = {
            "ok": not errors, "stream": stream, "cached": _cached(stream), "aux": len(ids),
        }  # fmt: skip
        statuses = [
            m.get("status", "") + (f" {m['id']}" if m.get("id") else "")
            for m in messages if m.get("status") and not m.get("progressDetail")
        ]  # fmt: skip
        if statuses:
            found["statuses"] = [self.normal.text(each) for each in statuses]
        if errors:
            last = errors[-1]
            detail = last.get("errorDetail", {})
            found["error"] = self.normal.text(last.get("error", ""))
            found["code"] = detail.get("code")
            if detail.get("message") != last.get("error"):
                found["detail"] = self.normal.text(detail.get("message", ""))
        elif ids:
            self.last = ids[-1]
        return found

    # commands

    def _filled(self, text: str) -> str:
        for name, value in (("last", self.last), ("dir", self.folder), ("port", str(PORT))):
            text = text.replace(f"{{{name}}}", value)
        return text

    def _cli(
        self, args: Sequence[str], cwd: str = "", stdin: bytes | None = None, sort: bool = False
    ) -> dict[str, Any]:
        done = subprocess.run(
            [CLI, *map(self._filled, args)], cwd=cwd or self.folder, env=self._environment(),
            input=stdin, capture_output=True, timeout=180,
        )  # fmt: skip
        errors = [line for line in self._lines(done.stderr, sort) if not _DEPRECATED.match(line)]
        return {"rc": done.returncode, "out": self._lines(done.stdout, sort), "err": errors}

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": self._scratch, "DOCKER_HOST": self.daemon.host,
            "DOCKER_CONFIG": f"{self._scratch}/cfg", "DOCKER_BUILDKIT": "0",
            "DOCKER_CLI_HINTS": "false",
        }  # fmt: skip

    def _lines(self, data: bytes, sort: bool) -> list[str]:
        found = lines(data.decode("utf-8", "replace"))
        while found and not found[-1]:
            found.pop()
        shown = [self.normal.text(line) for line in found]
        return sorted(shown) if sort else shown

    def op_cli(self, op: Operation) -> Any:
        """A command of the docker CLI."""
        found = self._cli(
            op["args"], stdin=op.get("stdin", "").encode() or None, sort=op.get("sort", False)
        )
        return {"rc": found["rc"]} if op.get("quiet") else found

    def op_shell(self, op: Operation) -> Any:
        """A line of sh on the host, in the folder of the case."""
        done = subprocess.run(
            ["sh", "-c", self._filled(op["sh"])], cwd=self.folder, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, **self._environment()}, timeout=180,
        )  # fmt: skip
        text = done.stdout.decode("utf-8", "replace").rstrip("\n")
        return {"rc": done.returncode, "out": [self.normal.text(line) for line in lines(text)]}

    def op_sleep(self, op: Operation) -> Any:
        time.sleep(op["s"])
        return {}

    def op_api(self, op: Operation) -> Any:
        status, body = self.daemon.json(
            op["method"], self._filled(op["path"]), body=op.get("body"), query=op.get("query"),
            headers=op.get("headers"),
        )  # fmt: skip
        if isinstance(body, dict) and "Id" in body:
            self.last = body["Id"]
        if isinstance(body, dict) and op.get("pick"):
            body = {name: body.get(name) for name in op["pick"]}
        return {"status": status, "body": self.normal.value(body)}

    # what there is

    def op_inspect(self, op: Operation) -> Any:
        name = urllib.parse.quote(op.get("image", "nkc/t"))
        status, found = self.daemon.json("GET", f"/images/{name}/json")
        if status != 200:
            said = found.get("message", "") if isinstance(found, dict) else found
            return {"status": status, "message": self.normal.text(said)}
        config = {k: v for k, v in (found.get("Config") or {}).items()
                  if v not in (None, "", [], {}, False)}  # fmt: skip
        result: dict[str, Any] = {
            "Config": self.normal.value(config),
            "layers": len(found["RootFS"].get("Layers") or []),
            "parent": bool(found.get("Parent")),
        }
        result |= {name: found[name] for name in ("Author", "Comment") if found.get(name)}
        return result | {name: self.normal.value(found.get(name)) for name in op.get("also", [])}

    def op_history(self, op: Operation) -> Any:
        name = urllib.parse.quote(op.get("image", "nkc/t"))
        status, found = self.daemon.json("GET", f"/images/{name}/history")
        if status != 200:
            return {"status": status}
        return [
            {"CreatedBy": self.normal.text(step["CreatedBy"]), "empty": step["Size"] == 0,
             **({"Comment": step["Comment"]} if step["Comment"] else {})}
            for step in found
        ]  # fmt: skip

    def op_files(self, op: Operation) -> Any:
        """What is at these paths of the image; "dir/*" lists names below."""
        body = {"Image": op.get("image", "nkc/t"), "Cmd": ["x"], "NetworkDisabled": True}
        status, made = self.daemon.json("POST", "/containers/create", body=body)
        if status != 201:
            return {"status": status, "message": self.normal.value(made)}
        _, data = self.daemon.call("GET", f"/containers/{made['Id']}/export")
        self.daemon.call(
            "DELETE", f"/containers/{made['Id']}", query={"v": "1", "force": "1"}
        )
        return _view(data, op["paths"])

    def op_cpout(self, op: Operation) -> Any:
        """`docker cp` from a container."""
        status, data = self.daemon.call(
            "GET", f"/containers/{op['container']}/archive", query={"path": op["path"]}
        )
        if status != 200:
            return {"status": status, "message": self._message(data)}
        return {"status": status, "files": _view(data, op["paths"])}

    # archives of images

    def op_layer(self, op: Operation) -> Any:
        """The entries of the top layer, or of layer n, of an image."""
        status, data = self.daemon.call(
            "GET", "/images/get", query={"names": op.get("image", "nkc/t")}
        )
        if status != 200:
            return {"status": status}
        tar = tarfile.open(fileobj=io.BytesIO(data))  # noqa: SIM115
        layers = _json_of(tar, "manifest.json")[0]["Layers"]
        member = tar.getmember(layers[op.get("n", -1)])
        if member.issym():
            folder = os.path.dirname(member.name)
            member = tar.getmember(os.path.normpath(os.path.join(folder, member.linkname)))
        raw = _content(tar, member)
        if not raw.strip(b"\0"):
            return {"layers": len(layers), "entries": []}
        with tarfile.open(fileobj=io.BytesIO(raw)) as layer:
            entries = [
                [m.name + ("/" if m.isdir() else ""), f"{m.mode:04o}", m.uid, m.gid]
                for m in layer.getmembers() if not _OF_THE_RUNTIME.match(m.name)
            ]  # fmt: skip
        return {"layers": len(layers), "entries": entries}

    def op_save(self, op: Operation) -> Any:
        """The shape of an archive, which is kept for `load`."""
        names = [self._filled(name) for name in op["names"]]
        status, data = self.daemon.call("GET", "/images/get", query={"names": names})
        if status != 200:
            return {"status": status, "message": self._message(data)}
        self._saved[op.get("as", "save")] = data
        tar = tarfile.open(fileobj=io.BytesIO(data))  # noqa: SIM115
        entries = [
            {"RepoTags": sorted(m["RepoTags"]) if m["RepoTags"] else m["RepoTags"],
             "layers": len(m["Layers"] or [])}
            for m in _json_of(tar, "manifest.json")
        ]  # fmt: skip
        there = "repositories" in tar.getnames()
        return {
            "status": status,
            "manifest": sorted(entries, key=str),
            "repositories": self.normal.value(_json_of(tar, "repositories")) if there else None,
            "members": sorted(set(map(_kind, tar.getnames())) - {""}),
        }

    def op_load(self, op: Operation) -> Any:
        data = self._saved[op["from"]] if "from" in op else make_tar(op["tar"])
        data = data[: op["cut"]] if "cut" in op else data
        if "drop" in op:
            data = _without(data, op["drop"])
        query = {"quiet": op.get("quiet", "1")}
        status, body = self.daemon.tar("/images/load", compressed(data, op.get("compress")), query)
        said = [
            self.normal.text(m.get("stream") or m.get("error") or m.get("message") or "?")
            for m in objects(body) if "progressDetail" not in m and "status" not in m
        ]  # fmt: skip
        return {"status": status, "out": sorted(said)}

    def op_import(self, op: Operation) -> Any:
        query = {"fromSrc": "-", **op.get("query", {})}
        data = compressed(make_tar(op["tar"]), op.get("compress"))
        status, body = self.daemon.tar("/images/create", data, query)
        said = [m.get("status") or m.get("error") or m.get("message") or "?" for m in objects(body)]
        return {"status": status, "out": [self.normal.text(each) for each in said]}


def _cached(stream: Sequence[str]) -> list[bool]:
    """For each step, whether the cache was used."""
    found: list[bool] = []
    for line in stream:
        if re.match(r"(\x1b\[0m)?Step \d+/\d+ :", line):
            found.append(False)
        elif line == " ---> Using cache" and found:
            found[-1] = True
    return found


def _kind(name: str) -> str:
    """What a member of an archive of images is; "" for a layer's folder."""
    if re.match(r"[0-9a-f]{64}$", name):
        return ""
    if "/" in name:
        return os.path.basename(name)
    return "<id>.json" if re.match(r"[0-9a-f]{64}\.json$", name) else name


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo | str) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _json_of(tar: tarfile.TarFile, name: str) -> Any:
    return json.loads(_content(tar, name))


def _without(data: bytes, names: Sequence[str]) -> bytes:
    raw = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as source,
        tarfile.open(fileobj=raw, mode="w") as target,
    ):
        for member in source.getmembers():
            if member.name not in names:
                target.addfile(member, source.extractfile(member) if member.isreg() else None)
    return raw.getvalue()


def _view(data: bytes, paths: Sequence[str]) -> dict[str, Any]:
    tar = tarfile.open(fileobj=io.BytesIO(data))  # noqa: SIM115
    members = {m.name.strip("/"): m for m in tar.getmembers()}
    found: dict[str, Any] = {}
    for path in paths:
        name = path.strip("/")
        if name.endswith("*"):
            found[path] = sorted(n for n in members if n.startswith(name[:-1]))
        else:
            found[path] = _entry(tar, members[name]) if name in members else None
    return found


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": _KINDS.get(member.type, str(member.type)), "mode": f"{member.mode & 0o7777:04o}",
        "uid": member.uid, "gid": member.gid,
    }  # fmt: skip
    if member.issym() or member.islnk():
        entry["link"] = member.linkname
    if member.isreg():
        data = _content(tar, member)
        try:
            entry["content"] = data.decode() if len(data) <= 400 else f"<{len(data)} bytes>"
        except UnicodeDecodeError:
            entry["content"] = f"<{len(data)} bytes>"
    fresh = abs(time.time() - member.mtime) < 3600
    is_context = int(member.mtime) == MTIME
    entry["mtime"] = "context" if is_context else "now" if fresh else int(member.mtime)
    prefix = "SCHILY.xattr."
    names = [n.removeprefix(prefix) for n in member.pax_headers if n.startswith(prefix)]
    return entry | ({"xattr": dict.fromkeys(names, "<set>")} if names else {})
