#!/bin/bash
# docker 7.2.0 of PyPI (docker-py).
# Expected: exec_start returns all output of a command, however the bytes of the reply arrive.
# Found: output that arrives in one piece with the reply's head is lost, without an error: the head is read through
#        http.client's buffer, the stream from the socket below it.  A client that gets no processor while a short
#        command runs meets that.
# Needs python3 with venv.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
python3 -m venv env
env/bin/pip install -q --disable-pip-version-check docker==7.2.0
cat >client.py <<'P'
import os, socket, struct, sys, threading, time
import docker

HEAD = (b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
FRAME = struct.pack(">BxxxL", 1, 3) + b"hi\n"  # of standard output

def serve(listener, pieces):
    connection, _ = listener.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(0.5)
    connection.close()

def output(path, *pieces):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        threading.Thread(target=serve, args=(listener, pieces), daemon=True).start()
        return docker.APIClient(base_url=f"unix://{os.path.abspath(path)}", version="1.45").exec_start("any")

apart, together = output("one.sock", HEAD, FRAME), output("two.sock", HEAD + FRAME)
print(f"docker {docker.__version__}: head and output apart: {apart!r}, together: {together!r}")
sys.exit((apart, together) != (b"hi\n", b""))
P
env/bin/python client.py || { echo "this has changed"; exit 1; }
