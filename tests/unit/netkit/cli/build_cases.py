"""Command lines of builds that `netkit` and the stock docker CLI must turn into the same requests.

As in cli_cases; run in a folder with the files of FILES.  Names of contexts are folders there.
"""

from __future__ import annotations

from collections.abc import Mapping

FROM = "FROM busybox\n"
_TREE = {
    "Dockerfile": FROM, "A.TXT": "upper", "a.txt": "a", "b.md": "b", "d/a.txt": "da",
    "d/c.pyc": "c", "d/e/f.pyc": "f", "d/e/g": "g", "keep/k1": "k", "keep/n/k2": "k2",
    "top.pyc": "p", ".git/x": "x",
}  # fmt: skip
IGNORED = (
    "a.txt", "*.pyc", "**/*.pyc", "**.pyc", "d", "d/*", "d/**", "*\n!a.txt", "**\n!keep",
    "*\n!**/*.pyc", "keep\n!keep/n", "keep/n\n!keep", "# a.txt\n #b.md", "  a.txt  \n\n",
    "\ufeffa.txt\nb.md", "/a.txt", "//d//a.txt", "./d/./e/", "../a.txt", "!a.txt", "! a.txt", "/",
    ".", "?.txt", "[a-b].*", "[^a].md", "d/?/g", "a\\.txt", "Dockerfile", ".dockerignore",
    "Dockerfile\n.dockerignore", "*\n!d/a.txt\nd", "*\n!a.txt\n!d/a.txt\nd", "**/k*\n!**/k2",
    "d/e\n!d/e/g", "d/e/*\n!d/e/g", "*/*.pyc", "*/e", "**/e", "d/**/g", "**/g", "**d",
    "k*\n!keep/k1", "keep/k1/", "a.txt\r\nb.md\r\n", "*.TXT", "*.txt\n!A.TXT", ".*", "*.*", "**/**",
    "d/**/", "e",
    "**/.git", ".git\n!.git/x", "d\n!d/c.pyc\nd/*.pyc", "*\n!d\nd/e", "*e*", "k?ep", "[k]eep",
    "keep/[n-o]", "d/*/g", "d*\n!d/e/f.pyc", "**/*\n!**/a.txt", "a.txt\n!a.txt\na.txt",
)  # fmt: skip
BAD_PATTERNS = ("[", "a[", "[]a]", "a\\", "[a-]", "!", "d/[")


def ignoring() -> list[str]:
    """A build of each tree with a .dockerignore."""
    return [f"build i{number}" for number in range(len(IGNORED + BAD_PATTERNS))]


def files() -> Mapping[str, str]:
    """Every file by its path; "-> TARGET" is a link."""
    found = {f"plain/{name}": text for name, text in _TREE.items()}
    for number, text in enumerate(IGNORED + BAD_PATTERNS):
        found |= {f"i{number}/{name}": content for name, content in _TREE.items()}
        found[f"i{number}/.dockerignore"] = text
    return found | {
        "other/Dockerfile.dev": "FROM busybox:dev\n",
        "lower/dockerfile": FROM,
        "sub/docker/File": FROM, "sub/.dockerignore": "docker",
        "links/Dockerfile": "-> real", "links/real": FROM, "links/out": "-> /etc/passwd",
        "links/broken": "-> nowhere", "links/d": "-> .",
        "none/x": "x",
        "empty/Dockerfile": "",
        "alone": FROM,
    }  # fmt: skip


CALLS = """
build plain
build -t one:1 -t two plain
build -q plain
build --build-arg A=1 --build-arg B=x=y --build-arg FROM_OUTSIDE --build-arg NOT_SET plain
build --label a=b --label c plain
build --no-cache --pull --force-rm plain
build --rm=false plain
build --target dev --platform linux/amd64 plain
build --cache-from a,b --cache-from c:1 plain
build --network none --add-host a:1.2.3.4 --add-host b=::1 plain
build -m 64m --memory-swap -1 -c 512 --cpu-period 1000 --cpu-quota 500 plain
build --cpuset-cpus 0-1 --cpuset-mems 0 --cgroup-parent /x plain
build --shm-size 64m --ulimit nofile=1024:2048 --ulimit core=0 plain
build --security-opt label=disable,seccomp=unconfined plain
build --iidfile id plain
build --squash plain
build --compress plain
build -f other/Dockerfile.dev plain
build -f plain/Dockerfile plain
build -f sub/docker/File sub
build lower
build links
build -f links/real links
build -f other/Dockerfile.dev i0
build -f other/Dockerfile.dev sub
build --network default plain
build - < alone
build - < context.tar
build -f docker/File - < context.tar
build -f - plain < alone
build -f - i26 < alone
builder prune -f
builder prune -af --filter until=1h
builder build plain
image build plain
"""
BAD = """
build -f x - < alone
build -f - - < alone
build -f nosuch/x plain
build -f - nosuch < alone
build
build plain plain
build nosuch
build none
build -f nosuch plain
build alone
build -t A:B: plain
build -t UPPER plain
build --build-arg plain
build --ulimit x plain
build -m x plain
build --add-host x plain
build --network
"""
