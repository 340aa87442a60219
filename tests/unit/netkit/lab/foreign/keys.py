"""Keys of the formats that `netkit lab import` reads, as their documentation has them.  Data.

containerlab: its schema of the topology file, as of 0.79.  Compose: the Compose Specification's
schema.  Kathara: kathara-lab.conf(5), and the further options of kathara-vstart(1).  A value is one
that the key may have.
"""

from __future__ import annotations

CLAB_TOP = ("prefix", "mgmt", "settings", "debug")
CLAB_NODE = (
    "image image-pull-policy restart-policy kind license type group startup-config startup-delay"
    " enforce-startup-config suppress-startup-config auto-remove exec binds volumes ports env"
    " credentials env-files user hostname entrypoint cmd labels runtime mgmt-ipv4 mgmt-ipv6"
    " network-mode link-apply-mode cpu memory cpu-set extras config stages dns certificate"
    " healthcheck components aliases shm-size cap-add privileged cgroupns-mode cgroup-parent"
    " pid-mode tmpfs security-opts sysctls devices"
).split()
CLAB_VALUES: dict[str, object] = {
    "kind": "nokia_srlinux", "exec": ["touch /x"], "sysctls": {"net.ipv6.conf.all.forwarding": 1},
    "group": "g",
}  # fmt: skip
CLAB_LINK = {
    "mtu": 1400, "ipv4": ["10.0.0.1/24", "10.0.0.2/24"], "ipv6": ["fd00::1/64", "fd00::2/64"],
    "vars": {"a": 1}, "labels": {"a": "b"}, "type": "vxlan",
}  # fmt: skip
CLAB_END = {"mac": "02:00:00:00:00:01", "ipv4": "10.0.0.1/24", "ipv6": "fd00::1/64", "vars": {}}
KATHARA = (
    "image mem cpus port bridged ipv6 exec sysctl env shell num_terms ulimit privileged entrypoint"
    " args volume"
).split()
KATHARA_META = ("DESCRIPTION", "VERSION", "AUTHOR", "EMAIL", "WEB", "NAME")
COMPOSE_TOP = ("version", "include", "models", "secrets", "configs", "x-any")
COMPOSE_SERVICE = (
    "develop deploy annotations attach build blkio_config cap_add cap_drop cgroup cgroup_parent"
    " command configs container_name cpu_count cpu_percent cpu_shares cpu_quota cpu_period"
    " cpu_rt_period cpu_rt_runtime cpus cpuset credential_spec depends_on device_cgroup_rules"
    " devices dns dns_opt dns_search domainname entrypoint env_file label_file environment expose"
    " extends provider external_links extra_hosts gpus group_add healthcheck hostname init ipc"
    " isolation labels links logging mac_address mem_limit mem_reservation mem_swappiness"
    " memswap_limit network_mode models oom_kill_disable oom_score_adj pid pids_limit platform"
    " ports post_start pre_stop privileged profiles pull_policy pull_refresh_after read_only"
    " restart runtime scale security_opt shm_size secrets sysctls stdin_open stop_grace_period"
    " stop_signal storage_opt tmpfs tty ulimits use_api_socket user uts userns_mode volumes"
    " volumes_from working_dir"
).split()
COMPOSE_VALUES: dict[str, object] = {
    "cap_add": ["SYS_ADMIN"], "cap_drop": ["NET_RAW"], "command": "sleep 9", "cpus": 0.5,
    "depends_on": {"other": {"condition": "service_healthy"}}, "dns": "10.0.0.1",
    "dns_opt": ["a"], "dns_search": ["a"], "environment": {"A": "b"}, "expose": [80],
    "extra_hosts": {"a": "10.0.0.1"}, "group_add": [5], "init": True, "links": ["other:o"],
    "mem_limit": "64m", "pids_limit": 9, "ports": ["80:80"], "read_only": True, "restart": "always",
    "shm_size": "64m", "sysctls": {"kernel.x": 1}, "tmpfs": ["/x"], "volumes": ["./a:/b"],
    "stop_signal": "TERM", "working_dir": "/x", "user": "5", "hostname": "a", "domainname": "b",
    "entrypoint": ["sleep"], "network_mode": "host",
}  # fmt: skip
COMPOSE_NETWORK = {
    "name": "a", "driver": "overlay", "driver_opts": {"x": "y"}, "external": True,
    "internal": True, "enable_ipv4": False, "enable_ipv6": True, "labels": {"a": "b"},
    "ipam": {"driver": "x", "options": {"a": "b"}, "config": [
        {"subnet": "10.9.0.0/24", "gateway": "10.9.0.1", "ip_range": "10.9.0.0/25",
         "aux_addresses": {"a": "10.9.0.9"}}]},
}  # fmt: skip
COMPOSE_JOIN = {
    "aliases": ["www"], "interface_name": "eth9", "ipv4_address": "10.9.0.5",
    "ipv6_address": "fd00::5", "link_local_ips": ["169.254.1.1"], "priority": 1, "gw_priority": 1,
    "mac_address": "02:00:00:00:00:01", "driver_opts": {"a": "b"},
}  # fmt: skip
COMPOSE_VOLUME = {"name": "a", "driver": "x", "driver_opts": {"o": "bind"}, "external": True,
                  "labels": {"a": "b"}}  # fmt: skip
