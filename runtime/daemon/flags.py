"""The flags that netkitd implements.  Data; docs/daemon.md has the same table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """`words` on the command line, `file` in daemon.json, `key` in DaemonConfig."""

    words: tuple[str, ...]
    key: str
    kind: str  # of runtime.daemon.config_values
    meta: str
    help: str
    plural: str = ""  # Docker's name in daemon.json, where it is not the first word

    @property
    def file(self) -> str:
        return self.plural or self.words[0].lstrip("-")

    @property
    def spellings(self) -> tuple[str, ...]:
        """Accepted keys in daemon.json: the long flags, and Docker's name."""
        long = [word[2:] for word in self.words if word.startswith("--")]
        return tuple(dict.fromkeys([self.file, *long, self.key.replace("_", "-")]))


FLAGS = (
    Flag(("--root", "--data-root"), "root", "path", "DIR",
         "persistent state: images, containers, logs", "data-root"),
    Flag(("--run", "--exec-root"), "run", "path", "DIR", "sockets, namespaces, mounts",
         "exec-root"),
    Flag(("--host", "-H"), "hosts", "list", "URL", "listen on unix://PATH, tcp://HOST:PORT, fd://",
         "hosts"),
    Flag(("--group", "-G"), "group", "text", "NAME", "group of the unix socket (default netkit)"),
    Flag(("--label",), "labels", "list", "K=V", "label of this engine, shown by info", "labels"),
    Flag(("--pidfile", "-p"), "pidfile", "text", "FILE", "write the process id here"),
    Flag(("--debug", "-D"), "debug", "flag", "", "log at level debug"),
    Flag(("--log-level", "-l"), "log_level", "text", "LEVEL",
         "level of the daemon's log: debug, info, warn, error or fatal (default info)"),
    Flag(("--runtime", "--default-runtime"), "runtime", "text", "NAME", "runc, crun or auto",
         "default-runtime"),
    Flag(("--tls",), "tls", "flag", "",
         "TLS on tcp listeners; plain HTTP there gets a 400 that says so"),
    Flag(("--tlsverify",), "tlsverify", "flag", "",
         "TLS, and clients need a certificate of that CA"),
    Flag(("--tlscacert",), "tlscacert", "text", "FILE", "the CA that signs clients"),
    Flag(("--tlscert",), "tlscert", "text", "FILE", "certificate of the daemon"),
    Flag(("--tlskey",), "tlskey", "text", "FILE", "key of the daemon"),
    Flag(("--insecure-tcp",), "insecure_tcp", "flag", "",
         "allow plain TCP on other addresses than loopback: root access for all"),
    Flag(("--metrics-addr",), "metrics_addr", "text", "HOST:PORT",
         "serve metrics for Prometheus at /metrics, e.g. on 127.0.0.1:9323 (default: nowhere)"),
    Flag(("--insecure-metrics",), "insecure_metrics", "flag", "",
         "allow metrics on other addresses than loopback: names and traffic are read by all"),
    Flag(("--bridge", "-b"), "bridge", "text", "NAME", "bridge of the default network, or none"),
    Flag(("--bip",), "bip", "text", "CIDR", "address of docker0, e.g. 172.26.0.1/16"),
    Flag(("--fixed-cidr",), "fixed_cidr", "text", "CIDR", "addresses to allocate on docker0"),
    Flag(("--default-gateway",), "default_gateway", "text", "IP",
         "gateway of docker0's containers"),
    Flag(("--mtu",), "mtu", "number", "BYTES", "MTU of the default network"),
    Flag(("--icc",), "icc", "flag", "",
         "containers on docker0 may reach each other (default true)"),
    Flag(("--ip",), "ip", "text", "IP", "address that ports are published on by default"),
    Flag(("--ip-forward",), "ip_forward", "flag", "",
         "switch net.ipv4.ip_forward on (default true)"),
    Flag(("--ip-masq",), "ip_masq", "flag", "", "masquerade docker0 (default true)"),
    Flag(("--iptables",), "iptables", "flag", "", "write firewall rules (default true)"),
    Flag(("--userland-proxy",), "userland_proxy", "flag", "",
         "accepted; there is no proxy to start"),
    Flag(("--firewall-backend",), "firewall_backend", "text", "NAME",
         "auto, iptables, iptables-nft, iptables-legacy or nftables"),
    Flag(("--ovs-db",), "ovs_db", "text", "SOCKET",
         "the database of Open vSwitch: unix:PATH (default unix:/run/openvswitch/db.sock)"),
    Flag(("--ovn-nb",), "ovn_nb", "text", "SERVERS",
         "northbound database of OVN: tcp:IP:6641,tcp:IP:6641, or ssl:, or unix:PATH"),
    Flag(("--ovn-sb",), "ovn_sb", "text", "SERVERS",
         "make this host a chassis of OVN, of this southbound database: tcp:IP:6642"),
    Flag(("--ovn-encap-ip",), "ovn_encap_ip", "text", "IP",
         "address of this host where OVN's tunnels to it end"),
    Flag(("--cluster",), "cluster", "text", "SERVERS",
         "networks shared with other hosts: ovsdb:tcp:IP:6640,tcp:IP:6640, or ssl:"),
    Flag(("--cluster-advertise",), "cluster_advertise", "text", "IP",
         "address of this host for other hosts of the cluster"),
    Flag(("--cluster-tls-ca",), "cluster_tls_ca", "path", "FILE",
         "TLS between hosts of the cluster: the CA that signs only them"),
    Flag(("--cluster-tls-cert",), "cluster_tls_cert", "path", "FILE", "this host's certificate"),
    Flag(("--cluster-tls-key",), "cluster_tls_key", "path", "FILE", "this host's key"),
    Flag(("--containers",), "containers", "flag", "",
         "run containers (default true); false: networks of other engines only"),
    Flag(("--docker-plugin",), "docker_plugin", "folder", "DIR",
         "network drivers and IPAM for dockerd, in its folder /run/docker/plugins, or DIR"),
    Flag(("--docker-api",), "docker_api", "text", "URL",
         "dockerd's API, for names of its containers (default unix:///run/docker.sock)"),
    Flag(("--default-address-pool",), "default_address_pools", "pools", "base=CIDR,size=N",
         "address pool that subnets of networks are allocated from", "default-address-pools"),
    Flag(("--default-network-opt",), "default_network_opts", "nested", "DRIVER=KEY=VALUE",
         "default option of new networks of a driver", "default-network-opts"),
    Flag(("--dns",), "dns", "list", "IP", "name server of containers"),
    Flag(("--dns-opt",), "dns_opts", "list", "OPTION", "resolver option of containers",
         "dns-opts"),
    Flag(("--dns-search",), "dns_search", "list", "DOMAIN", "search domain of containers"),
    Flag(("--host-gateway-ip",), "host_gateway_ips", "list", "IP",
         "IPv4 address that host-gateway in --add-host means (default: of docker0)",
         "host-gateway-ips"),
    Flag(("--init",), "init", "flag", "", "run an init process in every container"),
    Flag(("--log-driver",), "log_driver", "text", "NAME",
         "default log driver: json-file, local or none (default json-file)"),
    Flag(("--log-opt",), "log_opts", "pairs", "K=V",
         "default option of that log driver, e.g. max-size=10m", "log-opts"),
    Flag(("--default-shm-size",), "shm_size", "size", "BYTES",
         "size of /dev/shm of containers, e.g. 128m (default 64m)", "default-shm-size"),
    Flag(("--default-ulimit",), "ulimits", "ulimits", "NAME=SOFT[:HARD]",
         "default ulimit of containers", "default-ulimits"),
    Flag(("--default-ipc-mode",), "ipc_mode", "text", "MODE",
         "private or shareable (default private)", "default-ipc-mode"),
    Flag(("--default-cgroupns-mode",), "cgroupns_mode", "text", "MODE",
         "private or host (default private on cgroup v2)", "default-cgroupns-mode"),
    Flag(("--cgroup-parent",), "cgroup_parent", "text", "PATH",
         "default parent control group of containers (default /netkit)"),
    Flag(("--no-new-privileges",), "no_new_privileges", "flag", "",
         "set on containers unless --security-opt overrides it"),
    Flag(("--registry-mirror",), "registry_mirrors", "list", "URL",
         "ask here first for images of docker.io", "registry-mirrors"),
    Flag(("--insecure-registry",), "insecure_registries", "list", "HOST[:PORT]|CIDR",
         "registry that may be without TLS, or with an invalid certificate",
         "insecure-registries"),
    Flag(("--max-concurrent-downloads",), "max_concurrent_downloads", "number", "N",
         "layers that are downloaded at a time (default 3)"),
    Flag(("--max-concurrent-uploads",), "max_concurrent_uploads", "number", "N",
         "layers that are uploaded at a time (default 5)"),
    Flag(("--max-download-attempts",), "max_download_attempts", "number", "N",
         "attempts of a download that makes no progress (default 5)"),
)  # fmt: skip
