#!/bin/bash
# docker.io 20.10.24 (Debian 12): its docker client.
# Expected: `docker ps` has the daemon add up the size of each container's files only where it is asked for, by --size, or by
#           a format with .Size.
# Found: `--format '{{json .}}'`, as scripts have it, asks for it too (size=1), and --size=false does not stop it.  With a field by
#        name, a JSON one too, it does not.  So what polls a host with large containers by {{json .}} reads their trees each time.
# Needs Debian 12 (amd64) with apt and python3.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q docker.io=20.10.24+dfsg1-1+deb12u1+b6 >/dev/null 2>&1
dpkg -x docker.io_*.deb root
cat >seen.py <<'P'
import http.server, os, socketserver, subprocess, threading

class Daemon(http.server.BaseHTTPRequestHandler):
    """An engine without containers, which keeps what is asked about them."""
    def address_string(self):
        return "unix"
    def log_message(self, *_):
        pass
    def do_GET(self):
        listing = "/containers/json" in self.path
        if listing:
            asked.append("size=1" in self.path)
        content = b"[]" if listing else b"OK"
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
    do_HEAD = do_GET

asked = []
with socketserver.ThreadingUnixStreamServer("docker.sock", Daemon) as served:
    served.daemon_threads = True
    threading.Thread(target=served.serve_forever, daemon=True).start()
    for argv in ((), ("--size",), ("--format", "{{.Names}} {{.Size}}"), ("--format", "{{.Names}}"), ("--format", "{{json .Names}}"),
                 ("--format", "{{json .}}"), ("--size=false", "--format", "{{json .}}")):
        asked.clear()
        subprocess.run(["root/usr/bin/docker", "-H", f"unix://{os.getcwd()}/docker.sock", "ps", *argv], check=True,
                       stdout=subprocess.DEVNULL, env={"HOME": os.getcwd()})
        print(" ".join(("ps", *argv)) + ":", "sizes" if asked == [True] else "no sizes" if asked == [False] else asked, flush=True)
    served.shutdown()
P
root/usr/bin/docker --version | sed 's/+.*//'
python3 seen.py | tee seen
cat >found <<'S'
ps: no sizes
ps --size: sizes
ps --format {{.Names}} {{.Size}}: sizes
ps --format {{.Names}}: no sizes
ps --format {{json .Names}}: no sizes
ps --format {{json .}}: sizes
ps --size=false --format {{json .}}: sizes
S
diff found seen || { echo "this has changed"; exit 1; }
