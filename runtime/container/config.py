"""Docker's container configuration, typed: the JSON of the Engine API 1.22-1.51 is these structs.

Parsing ignores unknown keys, as every Docker engine does; what is known and cannot be
honoured is refused by `check` in the use case.  Encoding gives the JSON of `inspect`.
Sizes are bytes, CPU time is in units of 1e-9 CPUs (NanoCpus), durations of health checks
are nanoseconds, StopTimeout is seconds.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import field

from runtime.apitypes import ApiObject, Health


class Config(ApiObject):
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: Health | None = None
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool = False
    mac_address: str | None = None
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shell: list[str] | None = None


class PortBinding(ApiObject):
    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(ApiObject):
    name: str = ""
    maximum_retry_count: int = 0


class LogConfig(ApiObject):
    type: str = ""
    config: dict[str, str] | None = None


class Ulimit(ApiObject):
    name: str
    hard: int = 0
    soft: int = 0


class Device(ApiObject):
    path_on_host: str
    path_in_container: str = ""
    cgroup_permissions: str = ""


class WeightDevice(ApiObject):
    path: str
    weight: int = 0


class ThrottleDevice(ApiObject):
    path: str
    rate: int = 0


class BindOptions(ApiObject, omit_defaults=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class TmpfsOptions(ApiObject, omit_defaults=True):
    """`size_bytes` 0: no limit; `mode` 0: that of the kind of mount; options: [["uid", "7"]]."""

    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class VolumeDriver(ApiObject, omit_defaults=True):
    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(ApiObject, omit_defaults=True):
    """`labels`, `driver_config`: of a volume that does not exist yet."""

    no_copy: bool = False
    labels: dict[str, str] | None = None
    driver_config: VolumeDriver | None = None
    subpath: str = ""


class ImageOptions(ApiObject, omit_defaults=True):
    subpath: str = ""


class Mount(ApiObject, omit_defaults=True):
    """One entry of HostConfig.Mounts (`--mount`)."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    cluster_options: dict[str, Any] | None = None


ConsoleSize = tuple[  # height, width of a terminal in characters
    Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)], Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
]


class HostConfig(ApiObject):
    binds: list[str] | None = None
    container_id_file: str = field(default="", name="ContainerIDFile")
    log_config: LogConfig = field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: ConsoleSize | None = None
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    mounts: list[Mount] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None
    # resources
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_i_ops: list[ThrottleDevice] | None = field(
        default=None, name="BlkioDeviceReadIOps"
    )
    blkio_device_write_i_ops: list[ThrottleDevice] | None = field(
        default=None, name="BlkioDeviceWriteIOps"
    )
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[Device] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[dict[str, Any]] | None = None
    kernel_memory: int = field(default=0, name="KernelMemory")
    kernel_memory_tcp: int = field(default=0, name="KernelMemoryTCP")
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    # of Windows; shown as they were given
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = field(default=0, name="IOMaximumBandwidth")

    @property
    def network_of(self) -> str | None:
        """The container whose network this one shares (`container:X`), by name or id."""
        kind, colon, name = self.network_mode.partition(":")
        return name if colon and kind == "container" else None


class EndpointIPAM(ApiObject):
    ipv4_address: str = field(default="", name="IPv4Address")
    ipv6_address: str = field(default="", name="IPv6Address")
    link_local_ips: list[str] | None = field(default=None, name="LinkLocalIPs")


class EndpointSettings(ApiObject):
    """A container's settings on one network; operational fields are filled when rendered."""

    ipam_config: EndpointIPAM | None = field(default=None, name="IPAMConfig")
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0


class NetworkingConfig(ApiObject):
    endpoints_config: dict[str, EndpointSettings | None] | None = None


class CreateRequest(Config):
    """Body of POST /containers/create."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None
    # set by the API: are mounts below a `-v SOURCE:TARGET:ro` read-only too (API 1.44 and later)
    read_only_recursive: bool = True

    def config(self) -> Config:
        return msgspec.convert(
            {name: value for name, value in msgspec.to_builtins(self).items()}, Config
        )
