"""docker's and weave's commands that are not here, and what to use instead.  Data."""

from __future__ import annotations

_MANIFEST = "lists of manifests are not made here: use `docker buildx imagetools` or skopeo"
_BUILD = "there is no BuildKit here: use `netkit build`"
_SWARM = "there is no swarm: `netkit cluster` shares networks between hosts"
_PLUGINS = "Docker's plugins are not supported: `netkit info` lists the network drivers"
_CONTEXTS = "there are no contexts: use -H, or set NETKIT_HOST or DOCKER_HOST"

_ONE_PROCESS = "router, names and driver are one here: use `weave launch`, and `weave stop`"
_NO_PROXY = (
    "there is no proxy: containers are on the overlay by `weave run`, `weave attach` or"
    " `docker run --network weave`"
)
_RESOLVER = "the engine's resolver answers containers on the overlay: leave it out"
_KUBERNETES = "there is no CNI plugin and no Kubernetes here"
_NO_BRIDGE = "the engine makes a bridge for each network: use `netkit net create --driver weave`"

INSTEAD = {
    "buildx": _BUILD,
    "bake": _BUILD,
    "volume update": _SWARM,
    "compose": "use docker compose with DOCKER_HOST=unix:///run/netkit/netkit.sock",
    "swarm": _SWARM,
    "node": _SWARM,
    "service": _SWARM,
    "stack": _SWARM,
    "secret": _SWARM,
    "config": _SWARM,
    "plugin": _PLUGINS,
    "context": _CONTEXTS,
    "manifest create": _MANIFEST,
    "manifest annotate": _MANIFEST,
    "manifest push": _MANIFEST,
    "manifest rm": _MANIFEST,
    "trust": "signatures are not made or checked here: pull by digest",
    "checkpoint": "checkpoints are not supported: use `netkit pause`",
    "scout": "images are not analysed here",
    # words of weave's, of any version
    "weave setup": "there is nothing to download: use `weave launch`",
    "weave env": _NO_PROXY,
    "weave config": _NO_PROXY,
    "weave proxy-env": _NO_PROXY,
    "weave proxy-config": _NO_PROXY,
    "weave launch-proxy": _NO_PROXY,
    "weave stop-proxy": _NO_PROXY,
    "weave launch-router": _ONE_PROCESS,
    "weave stop-router": _ONE_PROCESS,
    "weave attach-router": _ONE_PROCESS,
    "weave launch-plugin": _ONE_PROCESS,
    "weave stop-plugin": _ONE_PROCESS,
    "weave launch-dns": _RESOLVER,
    "weave stop-dns": _RESOLVER,
    "weave dns-args": _RESOLVER,
    "weave start": "a container has its addresses again: use `docker start`",
    "weave restart": "a container has its addresses again: use `docker restart`",
    "weave docker-bridge-ip": _RESOLVER,
    "weave create-bridge": _NO_BRIDGE,
    "weave attach-bridge": _NO_BRIDGE,
    "weave bridge-type": "use `weave status connections`, which says fastdp, sleeve or relay",
    "weave setup-cni": _KUBERNETES,
    "system dial-stdio": "use -H tcp://HOST:PORT with TLS instead of ssh://",
}

_WINDOWS = "it is for Windows containers"

# flags of docker's commands that we have
FLAGS = {
    "cpu-count": _WINDOWS,
    "cpu-percent": _WINDOWS,
    "io-maxbandwidth": _WINDOWS,
    "io-maxiops": _WINDOWS,
    "isolation": _WINDOWS,
    "disable-content-trust": "there is no content trust here: leave it out",
    "insecure": "the daemon decides: see insecure-registries in docs/daemon.md",
    "gpus": "GPUs are not supported: use --device",
    "kernel-memory": "the kernel has no such limit any more: use --memory",
    "use-api-socket": "mount it: -v /run/netkit/netkit.sock:/run/netkit/netkit.sock",
    "checkpoint": "checkpoints are not supported",
    "checkpoint-dir": "checkpoints are not supported",
    "platform": "an image is of one platform here: leave it out",
}
