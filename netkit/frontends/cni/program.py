"""netkit-cni: a CNI plugin that passes each call on to netkitd.

It runs for every container, so it imports nothing but what is in the interpreter anyway; nothing
of netkit's either, since `--install` copies this file.  What it sends and gets:

    POST /netkit/cni   {"env": {CNI_ variables}, "stdin": TEXT, "nsid": "DEVICE:INODE"}
    200, X-Cni-Exit    the output, and the exit code: 0, or 1 with an error as JSON
"""

import _socket
import posix
import sys

VERSIONS = ("0.4.0", "1.0.0", "1.1.0")
SOCKET = "/run/netkit/netkit.sock"
SECONDS = 150.0  # until an answer: netkitd gives up a change after 120 s
MOST = 1 << 20  # bytes of a configuration
AGAIN, UNAVAILABLE, ENVIRONMENT, UNDECODABLE = 11, 50, 4, 6
TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not loaded
    from typing import NoReturn
ONCE = "runtime.daemon.cni_once"

HELP = """\
Usage:  netkit-cni --install [DIRECTORY]

Networks of netkit for podman and every other runtime of CNI: a plugin of type netkit

A runtime runs it as `netkit`, with CNI_COMMAND and other variables, and a configuration on its
standard input; it asks netkitd.  Versions of CNI: 0.4.0, 1.0.0, 1.1.0.

Options:
      --help                 Show this
      --install [DIRECTORY]  Write the plugin `netkit` there (default /opt/cni/bin)

Examples:
  # install it, and a network for podman
  netkit-cni --install /usr/lib/cni
  echo '{"cniVersion": "1.0.0", "name": "back", "plugins": [{"type": "netkit",
    "subnet": "10.77.0.0/24", "capabilities": {"portMappings": true, "ips": true}}]}' \\
    > /etc/cni/net.d/50-back.conflist
  podman run --rm --network back -p 8080:80 nginx
"""


def main() -> None:
    code = run(posix.environ)
    sys.stdout.flush()
    posix._exit(code)  # nothing to tidy up: 1 ms less


def run(environ: dict[bytes, bytes]) -> int:
    """Return the exit code."""
    env = {
        name.decode(): value.decode(errors="replace")
        for name, value in environ.items() if name[:4] == b"CNI_"
    }  # fmt: skip
    command = env.get("CNI_COMMAND")
    if command is None:
        return _typed(sys.argv[1:])
    raw = _read(0, MOST + 1)
    text = raw.decode(errors="replace")
    version = field(text, "cniVersion")
    version = version if version in VERSIONS else VERSIONS[-1]
    if command == "VERSION":
        known = '","'.join(VERSIONS)
        return _print(f'{{"cniVersion":"{version}","supportedVersions":["{known}"]}}')
    if len(raw) > MOST:
        return _fail(version, UNDECODABLE, "the configuration is too large: 1 MiB at most")
    if field(text, "daemon") == "none":
        _once(raw)
    host = environ.get(b"NETKIT_HOST", b"").decode(errors="replace")
    path = field(text, "socket") or (host[7:] if host[:7] == "unix://" else "") or SOCKET
    try:
        head, body = _ask(path, _request(env, text))
    except OSError as error:
        code = UNAVAILABLE if command == "STATUS" else AGAIN
        return _fail(
            version, code,
            f"netkitd does not answer at {path}: {error.strerror or error}: start it, or give "
            '"daemon": "none" for a bridge without it',
        )  # fmt: skip
    exit = head.lower().partition(b"\r\nx-cni-exit: ")[2][:1]
    if exit not in {b"0", b"1"}:
        what = (head.partition(b"\r\n")[0] + b" " + body)[:300].decode(errors="replace")
        code = UNAVAILABLE if command == "STATUS" else AGAIN
        return _fail(version, code, f"netkitd at {path} has another answer: {what.strip()}")
    if body:
        sys.stdout.write(body.decode() + "\n")
    return int(exit)


def field(text: str, name: str) -> str:
    """The value of a member of the outermost object, if it is a plain string; else "".

    The JSON is netkitd's to check: what is no JSON is passed on whatever is found here.
    """
    key = f'"{name}"'
    if key not in text:
        return ""
    depth = at = 0
    while at < len(text):
        c = text[at]
        if c == '"':
            end = at + 1
            while end < len(text) and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            if depth == 1 and text[at : end + 1] == key:
                rest = text[end + 1 :].lstrip()
                if rest[:1] == ":":
                    rest = rest[1:].lstrip()
                    value = rest[1:].partition('"')[0]
                    return value if rest[:1] == '"' and "\\" not in value else ""
            at = end
        elif c in "{[":
            depth += 1
        elif c in "}]":
            depth -= 1
        at += 1
    return ""


def _request(env: dict[str, str], text: str) -> bytes:
    members = [f"{_quoted(name)}:{_quoted(value)}" for name, value in env.items()]
    try:
        found = posix.stat(env.get("CNI_NETNS", ""))
        nsid = f"{found.st_dev}:{found.st_ino}"
    except (OSError, ValueError):
        nsid = ""
    body = f'{{"env":{{{",".join(members)}}},"stdin":{_quoted(text)},"nsid":"{nsid}"}}'
    sent = body.encode(errors="replace")
    return (
        b"POST /netkit/cni HTTP/1.1\r\nHost: netkit\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(sent)
    ) + sent


ESCAPES = {n: f"\\u{n:04x}" for n in (*range(32), ord('"'), ord("\\"))}


def _quoted(text: str) -> str:
    return f'"{text.translate(ESCAPES)}"'


def _ask(path: str, request: bytes) -> tuple[bytes, bytes]:
    """Return the head and the body of the answer.  OSError."""
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    end.settimeout(SECONDS)
    end.connect(path)
    end.sendall(request)
    parts = []
    while part := end.recv(1 << 16):
        parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return head, body


def _read(fd: int, most: int) -> bytes:
    parts, size = [], 0
    while size < most and (part := posix.read(fd, min(1 << 16, most - size))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _print(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0


def _fail(version: str, code: int, message: str) -> int:
    _print(f'{{"cniVersion":"{version}","code":{code},"msg":{_quoted(message)}}}')
    return 1


def _once(raw: bytes) -> "NoReturn":
    """Become the one-shot mode, which imports all of netkit, with the same standard input."""
    fd = posix.memfd_create("cni", 0)
    posix.write(fd, raw)
    posix.lseek(fd, 0, 0)
    posix.dup2(fd, 0)
    posix.execv(sys.executable, [sys.executable, "-P", "-m", ONCE])


def _typed(words: list[str]) -> int:
    """What a person may ask."""
    if words[:1] == ["--install"] and len(words) <= 2:
        return _install(*words[1:])
    if words in (["--help"], ["-h"]):
        sys.stdout.write(HELP)
        return 0
    given = " ".join(words)
    why = f"unknown arguments: {given}" if given else "CNI_COMMAND is not set: a runtime runs it"
    sys.stderr.write(f"netkit-cni: {why} (see netkit-cni --help)\n")
    return 1


def _install(directory: str = "/opt/cni/bin") -> int:
    """Write this file there as `netkit`, to be run without site packages: 3 ms less."""
    path = directory + "/netkit"
    part = f"{directory}/.netkit.{posix.getpid()}"
    try:
        with open(__file__, encoding="utf-8") as source:
            text = f"#!{sys.executable} -IS\n{source.read()}\n\nmain()\n"
        with open(part, "x", encoding="utf-8") as file:
            file.write(text)
        posix.chmod(part, 0o755)
        posix.rename(part, path)
    except OSError as error:
        sys.stderr.write(f"netkit-cni: cannot install {path}: {error.strerror}\n")
        return 1
    sys.stdout.write(path + "\n")
    return 0


if __name__ == "__main__" and not sys.flags.no_site:
    main()
