#!/bin/bash
# conmon 2.1.6 (Debian 12).
# Expected: conmon that waits at _OCI_STARTPIPE for its engine to go on gives up where the pipe is closed without a byte: the
#           engine has ended, or does not want the container any more.
# Found: end of file counts as the sign to go on: it runs the runtime's `create`.  An engine that starts conmon ahead, and is
#        killed before it is ready, leaves a container, unless something else that `create` needs is not there yet (the
#        bundle's config.json).
# Needs Debian 12 (amd64) with apt.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q conmon=2.1.6+ds1-1 libglib2.0-0 libsystemd0 libpcre2-8-0 >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
mkdir bundle exits
cat >runtime <<R
#!/bin/sh
echo "the runtime is called: \$*" | sed 's/ --.*//' >>$D/called
exit 1
R
chmod +x runtime
cat >start.py <<'P'
import os, subprocess, sys

wait, go = os.pipe()
status, answer = os.pipe()
env = {"PATH": os.defpath, "LD_LIBRARY_PATH": os.path.abspath("root/usr/lib/x86_64-linux-gnu"),
       "_OCI_STARTPIPE": str(wait), "_OCI_SYNCPIPE": str(answer)}
here = os.getcwd()
conmon = subprocess.Popen(
    ["root/usr/bin/conmon", "--api-version", "1", "-c", "any", "-u", "any", "-n", "any", "-r", f"{here}/runtime",
     "-b", f"{here}/bundle", "-p", f"{here}/pid", "--exit-dir", f"{here}/exits", "-l", f"k8s-file:{here}/log",
     "--socket-dir-path", here], env=env, pass_fds=(wait, answer), stderr=subprocess.DEVNULL)
os.close(wait)
os.close(answer)
if sys.argv[1] == "kept":  # a control: as long as the pipe is open nothing is called
    try:
        conmon.wait(2)
    except subprocess.TimeoutExpired:
        conmon.kill()
        conmon.wait()
    sys.exit()
os.close(go)
with os.fdopen(status, "rb") as file:
    file.read()  # its end: of conmon and of what it forked
conmon.wait()
P
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu root/usr/bin/conmon --version | head -n 1
python3 start.py kept
[ ! -e called ] || { echo "it does not wait: this has changed"; exit 1; }
python3 start.py closed
cat called 2>/dev/null || { echo "the runtime was not called: this has changed"; exit 1; }
