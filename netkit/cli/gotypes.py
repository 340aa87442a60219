"""The types of docker's client: its templates know fields, their order, and durations.  Pure.

`docker inspect -f` sees structures of Go, not the daemon's JSON.  A field is `NAME=KEY?:TYPE`:
its name in Go, its key in JSON if that is another, "?" if it is left out of JSON when it is empty,
and its type, a string if none is said.  `+TYPE` is an embedded structure.
"""

from __future__ import annotations

import re
from functools import cache

from netkit.cli.govalues import NIL, Duration, Field, NilList, NilMap, Struct, Time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SORTED = frozenset({"ServiceConfig", "IndexInfo"})  # docker makes maps of them for JSON

TYPES: Mapping[str, str] = {
    # docker inspect CONTAINER
    "Container": "+ContainerBase Mounts:[]MountPoint Config:*Config"
    " NetworkSettings:*NetworkSettings ImageManifestDescriptor?:*Descriptor",
    "ContainerBase": "ID=Id Created Path Args:[]string State:*State Image ResolvConfPath"
    " HostnamePath HostsPath LogPath Name RestartCount:int Driver Platform MountLabel ProcessLabel"
    " AppArmorProfile ExecIDs:[]string HostConfig:*HostConfig GraphDriver:DriverData"
    " SizeRw?:*int SizeRootFs?:*int",
    "State": "Status Running:bool Paused:bool Restarting:bool OOMKilled:bool Dead:bool Pid:int"
    " ExitCode:int Error StartedAt FinishedAt Health?:*Health",
    "Health": "Status FailingStreak:int Log:[]*HealthcheckResult",
    "HealthcheckResult": "Start:time End:time ExitCode:int Output",
    "HostConfig": "Binds:[]string ContainerIDFile LogConfig:LogConfig NetworkMode"
    " PortBindings:map[]PortBinding RestartPolicy:RestartPolicy AutoRemove:bool VolumeDriver"
    " VolumesFrom:[]string ConsoleSize:[]int Annotations?:map CapAdd:[]string CapDrop:[]string"
    " CgroupnsMode DNS=Dns:[]string DNSOptions=DnsOptions:[]string DNSSearch=DnsSearch:[]string"
    " ExtraHosts:[]string GroupAdd:[]string IpcMode Cgroup Links:[]string OomScoreAdj:int PidMode"
    " Privileged:bool PublishAllPorts:bool ReadonlyRootfs:bool SecurityOpt:[]string StorageOpt?:map"
    " Tmpfs?:map UTSMode UsernsMode ShmSize:int Sysctls?:map Runtime? Isolation +Resources"
    " Mounts?:[]Mount MaskedPaths:[]string ReadonlyPaths:[]string Init?:*bool",
    "LogConfig": "Type Config:map",
    "PortBinding": "HostIP=HostIp HostPort",
    "RestartPolicy": "Name MaximumRetryCount:int",
    "Resources": "CPUShares=CpuShares:int Memory:int NanoCPUs=NanoCpus:int CgroupParent"
    " BlkioWeight:int BlkioWeightDevice:[]*WeightDevice BlkioDeviceReadBps:[]*ThrottleDevice"
    " BlkioDeviceWriteBps:[]*ThrottleDevice BlkioDeviceReadIOps:[]*ThrottleDevice"
    " BlkioDeviceWriteIOps:[]*ThrottleDevice CPUPeriod=CpuPeriod:int CPUQuota=CpuQuota:int"
    " CPURealtimePeriod=CpuRealtimePeriod:int CPURealtimeRuntime=CpuRealtimeRuntime:int CpusetCpus"
    " CpusetMems Devices:[]DeviceMapping DeviceCgroupRules:[]string DeviceRequests:[]DeviceRequest"
    " KernelMemory?:int KernelMemoryTCP?:int MemoryReservation:int MemorySwap:int"
    " MemorySwappiness:*int OomKillDisable:*bool PidsLimit:*int Ulimits:[]*Ulimit"
    " CPUCount=CpuCount:int CPUPercent=CpuPercent:int IOMaximumIOps:int IOMaximumBandwidth:int",
    "WeightDevice": "Path Weight:int",
    "ThrottleDevice": "Path Rate:int",
    "DeviceMapping": "PathOnHost PathInContainer CgroupPermissions",
    "DeviceRequest": "Driver Count:int DeviceIDs:[]string Capabilities:[][]string Options:map",
    "Ulimit": "Name Hard:int Soft:int",
    "Mount": "Type? Source? Target? ReadOnly?:bool Consistency? BindOptions?:*BindOptions"
    " VolumeOptions?:*VolumeOptions ImageOptions?:*ImageOptions TmpfsOptions?:*TmpfsOptions"
    " ClusterOptions?:*ClusterOptions",
    "BindOptions": "Propagation? NonRecursive?:bool CreateMountpoint?:bool"
    " ReadOnlyNonRecursive?:bool ReadOnlyForceRecursive?:bool",
    "VolumeOptions": "NoCopy?:bool Labels?:map Subpath? DriverConfig?:*MountDriver",
    "MountDriver": "Name? Options?:map",
    "ImageOptions": "Subpath?",
    "TmpfsOptions": "SizeBytes?:int Mode?:int Options?:[][]string",
    "ClusterOptions": "",
    "DriverData": "Data:map Name",
    "MountPoint": "Type? Name? Source Destination Driver? Mode RW:bool Propagation",
    "Config": "Hostname Domainname User AttachStdin:bool AttachStdout:bool AttachStderr:bool"
    " ExposedPorts?:mapEmpty Tty:bool OpenStdin:bool StdinOnce:bool Env:[]string Cmd:[]string"
    " Healthcheck?:*Healthcheck ArgsEscaped?:bool Image Volumes:mapEmpty WorkingDir"
    " Entrypoint:[]string NetworkDisabled?:bool MacAddress? OnBuild:[]string Labels:map"
    " StopSignal? StopTimeout?:*int Shell?:[]string",
    "Empty": "",
    "Healthcheck": "Test?:[]string Interval?:duration Timeout?:duration StartPeriod?:duration"
    " StartInterval?:duration Retries?:int",
    "NetworkSettings": "+NetworkSettingsBase +DefaultNetworkSettings Networks:map*EndpointSettings",
    "NetworkSettingsBase": "Bridge SandboxID SandboxKey Ports:map[]PortBinding HairpinMode:bool"
    " LinkLocalIPv6Address LinkLocalIPv6PrefixLen:int SecondaryIPAddresses:[]Address"
    " SecondaryIPv6Addresses:[]Address",
    "Address": "Addr PrefixLen:int",
    "DefaultNetworkSettings": "EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen:int"
    " IPAddress IPPrefixLen:int IPv6Gateway MacAddress",
    "EndpointSettings": "IPAMConfig:*EndpointIPAM Links:[]string Aliases:[]string MacAddress"
    " DriverOpts:map GwPriority:int NetworkID EndpointID Gateway IPAddress IPPrefixLen:int"
    " IPv6Gateway GlobalIPv6Address GlobalIPv6PrefixLen:int DNSNames:[]string",
    "EndpointIPAM": "IPv4Address? IPv6Address? LinkLocalIPs?:[]string",
    # docker image inspect
    "Image": "ID=Id RepoTags:[]string RepoDigests:[]string Parent Comment Created? Container?"
    " ContainerConfig?:*Config DockerVersion Author Config:*ImageConfig Architecture Variant? Os"
    " OsVersion? Size:int VirtualSize?:int GraphDriver:DriverData RootFS:RootFS Metadata:Metadata"
    " Descriptor?:*Descriptor Manifests?:[]any",
    "ImageConfig": "+OCIConfig +DockerConfig",
    "OCIConfig": "User? ExposedPorts?:mapEmpty Env?:[]string Entrypoint?:[]string Cmd?:[]string"
    " Volumes?:mapEmpty WorkingDir? Labels?:map StopSignal? ArgsEscaped?:bool",
    "DockerConfig": "Healthcheck?:*Healthcheck OnBuild?:[]string Shell?:[]string",
    "RootFS": "Type? Layers?:[]string",
    "Metadata": "LastTagTime?:time",
    "Descriptor": "MediaType=mediaType Digest=digest Size=size:int URLs=urls?:[]string"
    " Annotations=annotations?:map Data=data?:any Platform=platform?:*Platform"
    " ArtifactType=artifactType?",
    "Platform": "Architecture=architecture OS=os OSVersion=os.version?"
    " OSFeatures=os.features?:[]string Variant=variant?",
    # docker network inspect
    "Network": "Name ID=Id Created:time Scope Driver EnableIPv4:bool EnableIPv6:bool IPAM:IPAM"
    " Internal:bool Attachable:bool Ingress:bool ConfigFrom:ConfigReference ConfigOnly:bool"
    " Containers:mapEndpointResource Options:map Labels:map Peers?:[]any Services?:mapany",
    "IPAM": "Driver Options:map Config:[]IPAMConfig",
    "IPAMConfig": "Subnet? IPRange? Gateway? AuxAddress=AuxiliaryAddresses?:map",
    "ConfigReference": "Network",
    "EndpointResource": "Name EndpointID MacAddress IPv4Address IPv6Address",
    # docker volume inspect
    "Volume": "ClusterVolume?:*any CreatedAt? Driver Labels:map Mountpoint Name Options:map Scope"
    " Status?:mapany UsageData?:*UsageData",
    "UsageData": "RefCount:int Size:int",
    # docker events
    "Event": "Status=status? ID=id? From=from? Type Action Actor:Actor Scope=scope? Time=time?:int"
    " TimeNano=timeNano?:int",
    "Actor": "ID Attributes:map",
    # docker version
    "Version": "Client:ClientVersion Server:*ServerVersion",
    "ClientVersion": "Platform?:*PlatformInfo Version? APIVersion=ApiVersion? DefaultAPIVersion?"
    " GitCommit? GoVersion? Os? Arch? BuildTime? Context",
    "PlatformInfo": "Name?",
    "ServerVersion": "Platform?:PlatformName Components?:[]Component Version APIVersion=ApiVersion"
    " MinAPIVersion? GitCommit GoVersion Os Arch KernelVersion? Experimental?:bool BuildTime?",
    "PlatformName": "Name",
    "Component": "Name Version Details?:map",
    # docker info
    "Info": "+SystemInfo ServerErrors?:[]string UserName=- ClientInfo?:*ClientInfo"
    " ClientErrors?:[]string",
    "ClientInfo": "Debug:bool +ClientVersion Plugins:[]any Warnings:[]string",
    "SystemInfo": "ID Containers:int ContainersRunning:int ContainersPaused:int"
    " ContainersStopped:int Images:int Driver DriverStatus:[][]string SystemStatus?:[][]string"
    " Plugins:PluginsInfo MemoryLimit:bool SwapLimit:bool KernelMemory?:bool KernelMemoryTCP?:bool"
    " CPUCfsPeriod=CpuCfsPeriod:bool CPUCfsQuota=CpuCfsQuota:bool CPUShares:bool CPUSet:bool"
    " PidsLimit:bool IPv4Forwarding:bool Debug:bool NFd:int OomKillDisable:bool NGoroutines:int"
    " SystemTime LoggingDriver CgroupDriver CgroupVersion? NEventsListener:int KernelVersion"
    " OperatingSystem OSVersion OSType Architecture IndexServerAddress"
    " RegistryConfig:*ServiceConfig NCPU:int MemTotal:int GenericResources:[]any DockerRootDir"
    " HTTPProxy=HttpProxy HTTPSProxy=HttpsProxy NoProxy Name Labels:[]string ExperimentalBuild:bool"
    " ServerVersion Runtimes:mapRuntimeWithStatus DefaultRuntime Swarm:Swarm"
    " LiveRestoreEnabled:bool Isolation InitBinary ContainerdCommit:Commit RuncCommit:Commit"
    " InitCommit:Commit SecurityOptions:[]string ProductLicense? DefaultAddressPools?:[]AddressPool"
    " FirewallBackend?:*FirewallInfo CDISpecDirs:[]string DiscoveredDevices?:[]DeviceInfo"
    " Containerd?:*ContainerdInfo Warnings:[]string",
    "PluginsInfo": "Volume:[]string Network:[]string Authorization:[]string Log:[]string",
    "ServiceConfig": "AllowNondistributableArtifactsCIDRs?:[]string"
    " AllowNondistributableArtifactsHostnames?:[]string InsecureRegistryCIDRs:[]string"
    " IndexConfigs:map*IndexInfo Mirrors:[]string ExtraFields=-:mapany",
    "IndexInfo": "Name Mirrors:[]string Secure:bool Official:bool",
    "RuntimeWithStatus": "+Runtime Status=status?:map",
    "Runtime": "Path=path? Args=runtimeArgs?:[]string Type=runtimeType? Options=options?:mapany",
    "Swarm": "NodeID NodeAddr LocalNodeState ControlAvailable:bool Error RemoteManagers:[]any"
    " Nodes?:int Managers?:int Cluster?:*any Warnings?:[]string",
    "Commit": "ID Expected?",
    "AddressPool": "Base Size:int",
    "FirewallInfo": "Driver Info?:[][]string",
    "DeviceInfo": "Source ID",
    "ContainerdInfo": "Address? Namespaces:ContainerdNamespaces",
    "ContainerdNamespaces": "Containers Plugins",
}

_FIELD = r"(\+?)(\w*)(?:=([^?:]+))?(\??)(?::(\S+))?"


@cache
def _fields(kind: str) -> tuple[Field, ...]:
    found = []
    for word in TYPES[kind].split():
        match = re.fullmatch(_FIELD, word)
        assert match is not None, word
        plus, name, key, empty, of = match.groups()
        found.append(Field(name, key or name, bool(empty), of or "string", bool(plus)))
    return tuple(
        Field(each.name, each.key, each.omit, each.name if each.embedded else each.of,
              each.embedded) for each in found
    )  # fmt: skip


def typed(kind: str, found: object) -> object:
    """The JSON `found` as Go's value of type `kind`; what does not fit the type stays as it is."""
    if kind.startswith("*"):
        return NIL if found is None else typed(kind[1:], found)
    if kind.startswith("[]"):
        if found is None:
            return NilList()
        return [typed(kind[2:], each) for each in found] if isinstance(found, list) else found
    if kind.startswith("map"):
        if found is None:
            return NilMap()
        of = kind[3:] or "string"
        if not isinstance(found, dict):
            return found
        return {key: typed(of, each) for key, each in found.items()}
    if kind in TYPES:
        return _struct(kind, {} if found is None else found)
    return _scalar(kind, found)


def _struct(kind: str, found: object) -> object:
    if not isinstance(found, dict):
        return found
    values = tuple(
        typed(field.of, found if field.embedded else found.get(field.key))
        for field in _fields(kind)
    )
    return Struct(kind, _fields(kind), values, by_key=kind in SORTED)


def _scalar(kind: str, found: object) -> object:
    match kind:
        case "string":
            return "" if found is None else found
        case "int":
            return 0 if found is None else found
        case "bool":
            return bool(found)
        case "duration":
            return Duration(found) if isinstance(found, int) else Duration(0)
        case "time":
            return Time(found or "0001-01-01T00:00:00Z")
    return found
