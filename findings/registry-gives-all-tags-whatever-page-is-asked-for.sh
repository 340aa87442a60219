#!/bin/bash
# docker-registry 2.8.2 (Debian 12, 2.8.2+ds1-1), curl, in network namespaces of its own.
# Expected: GET /v2/NAME/tags/list?n=1 answers with one tag and a Link header to the next page, in lexical order, as the
# distribution specification has it ("Listing Tags") and as GET /v2/_catalog?n=1 of the same program does.
# Found: n is ignored: all tags come at once, unsorted, without Link.  A client that stops at a page without Link is right
# here; one that counts on pages to bound an answer is not.
# Needs Debian 12 (amd64) with apt, and root for namespaces of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q docker-registry=2.8.2+ds1-1 >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
cat >config.yml <<C
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $D/data}}
http: {addr: "127.0.0.1:5000"}
C
cat >steps <<'S'
set -eu
ip link set lo up
root/usr/bin/docker-registry serve config.yml >log 2>&1 &
trap 'kill %1' EXIT
at=http://127.0.0.1:5000/v2
for _ in $(seq 100); do curl -sf -o answer $at/ && break; sleep 0.1; done
blob() { # push the content of a file as a blob
    digest=sha256:$(sha256sum "$2" | cut -d' ' -f1)
    place=$(curl -s -X POST -D - -o answer "$at/$1/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    curl -sf -X PUT --data-binary @"$2" -H 'Content-Type: application/octet-stream' "$place&digest=$digest" -o answer
}
printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}' >image
size=$(stat -c %s image)
type=application/vnd.docker.distribution.manifest.v2+json
for name in one two; do
    blob $name image
    printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","size":%s,"digest":"%s"},"layers":[]}' \
        $type application/vnd.docker.container.image.v1+json "$size" "$digest" >manifest
    for tag in c a b; do
        curl -sf -X PUT -H "Content-Type: $type" --data-binary @manifest $at/$name/manifests/$tag -o answer
    done
done
asked() { # how many entries a page of one has, and whether another one is named
    curl -s -D head "$at/$1?n=1" >answer
    names=$(grep -o '\[.*\]' answer | tr -cd '"' | wc -c)
    link=no
    if grep -qi '^link:' head; then link=yes; fi
    echo "$1?n=1: $((names / 2)) of $2, Link: $link"
}
asked _catalog 2
asked one/tags/list 3
S
unshare --net bash steps | tee seen
printf '%s\n' '_catalog?n=1: 1 of 2, Link: yes' 'one/tags/list?n=1: 3 of 3, Link: no' |
    diff - seen || { echo "this has changed"; exit 1; }
