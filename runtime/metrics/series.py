"""Every series of `/metrics`: its name, type, labels and meaning.  Data; docs/metrics.md has all.

Names and units follow prometheus.io/docs/practices/naming: seconds and bytes, `_total` for what
only grows until netkitd starts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "info"]


@dataclass(frozen=True, slots=True)
class Series:
    name: str  # as in the text format: with `_total` and `_info`
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    part: str = ""  # the heading in docs/metrics.md


def _of(part: str, *rows: tuple[str, Kind, str, str]) -> tuple[Series, ...]:
    return tuple(
        Series(name, kind, text, tuple(labels.split()), part) for name, kind, labels, text in rows
    )


ENGINE = _of(
    "The engine",
    ("netkit_build_info", "info", "version python kernel runtime firewall",
     "Versions of netkitd, Python and Linux, the OCI runtime, the firewall back end; always 1."),
    ("netkit_containers", "gauge", "state", "Containers by state, as docker inspect has it."),
    ("netkit_images", "gauge", "", "Images, those without a name included."),
    ("netkit_volumes", "gauge", "", "Volumes."),
    ("netkit_api_requests_total", "counter", "method code",
     "Answers of the Engine API by class of the status: 2xx, 4xx; 1xx are attached streams, "
     "aborted those whose client left before."),
    ("netkit_api_open_requests", "gauge", "",
     "Requests that are being answered, open streams included."),
)  # fmt: skip

NETWORKS = _of(
    "Networks and endpoints",
    ("netkit_networks", "gauge", "driver", "Networks by driver."),
    ("netkit_endpoints", "gauge", "driver engine",
     "Endpoints (containers on networks) by driver, and by the engine that runs the container."),
    ("netkit_published_ports", "gauge", "protocol engine", "Published ports."),
    ("netkit_ipam_addresses", "gauge", "network subnet",
     "Addresses of a network's subnet that can be allocated: those of its IP range."),
    ("netkit_ipam_allocated_addresses", "gauge", "network subnet",
     "Those that are allocated on this host, reserved ones such as the gateway's included."),
)  # fmt: skip

_ENDPOINT = "network container endpoint engine"
_DEVICE = "network device kind"


def _traffic(prefix: str, labels: str, of: str) -> tuple[tuple[str, Kind, str, str], ...]:
    return tuple(
        (f"netkit_{prefix}_{way}_{name}_total", "counter", labels, f"{what} {done} {of}.")
        for way, done in (("receive", "received by"), ("transmit", "transmitted by"))
        for name, what in (
            ("bytes", "Bytes"),
            ("packets", "Packets"),
            ("errors", "Packets with an error,"),
            ("packets_dropped", "Packets that were dropped, to be"),
        )
    )


TRAFFIC = _of(
    "Traffic",
    *_traffic("endpoint", _ENDPOINT, "a container on a network"),
    *_traffic("network_device", _DEVICE, "a device of a network on the host: bridge, VXLAN, TAP"),
    ("netkit_omitted_series", "gauge", "of",
     "Endpoints, devices and subnets that have no series of their own, beyond the limit."),
)  # fmt: skip

CHANGES = _of(
    "Changes of the host, and drift",
    ("netkit_converges_total", "counter", "outcome",
     "Changes of links, addresses, routes and rules by outcome: changed, unchanged, conflict, "
     "failed (undone), late (not begun within its time)."),
    ("netkit_converge_duration_seconds", "histogram", "",
     "Time from the request of a change to its outcome, the wait for others included."),
    ("netkit_converge_steps_total", "counter", "", "Steps that were taken in these changes."),
    ("netkit_converges_waiting", "gauge", "", "Changes that wait for their turn."),
    ("netkit_drift_looks_total", "counter", "guard",
     "Comparisons of the host with what should be there, by event and at intervals."),
    ("netkit_drift_failed_looks_total", "counter", "guard",
     "Those that failed, or whose repair did."),
    ("netkit_drift_found_total", "counter", "guard kind",
     "Things that another tool had changed or deleted, when they were found."),
    ("netkit_drift_repaired_total", "counter", "guard kind", "Steps by which they were repaired."),
    ("netkit_drift_left_alone", "gauge", "guard kind",
     "Things that are not as they should be and are not repaired: netkit net check says why."),
    ("netkit_drift_last_repair_timestamp_seconds", "gauge", "guard",
     "When something was repaired last, seconds since 1970; 0: never since netkitd started."),
)  # fmt: skip

OVERLAY = _of(
    "The weave overlay",
    ("netkit_overlay_launched", "gauge", "", "1 where weave was launched on this host, else 0."),
    ("netkit_overlay_up", "gauge", "", "1 while its process runs and answers."),
    ("netkit_overlay_peers", "gauge", "state", "Known peers, this host included: alive, suspect, "
     "dead."),
    ("netkit_overlay_connections", "gauge", "state way encrypted",
     "Connections to other peers by state, by fastdp (the kernel), sleeve, relay or none, and "
     "whether containers' frames are encrypted."),
    ("netkit_overlay_dropped_datagrams_total", "counter", "reason",
     "Datagrams of peers that led to nothing; starts again with the overlay's process."),
    ("netkit_overlay_ipam_addresses", "gauge", "", "Addresses of the overlay's range."),
    ("netkit_overlay_ipam_allocated_addresses", "gauge", "",
     "Addresses of it in use on this host."),
    ("netkit_overlay_ipam_unreachable_ratio", "gauge", "",
     "Share of the range, 0 to 1, that peers out of reach own."),
    ("netkit_overlay_ipam_fenced", "gauge", "",
     "1 while this host's addresses are cut off from others, for their lease is over."),
    ("netkit_overlay_names", "gauge", "", "Names in the overlay's DNS, by name and address."),
    ("netkit_overlay_warnings", "gauge", "", "What netkit weave status warns of."),
)  # fmt: skip

PROCESS = _of(
    "The process",
    ("process_virtual_memory_bytes", "gauge", "", "Virtual memory size in bytes."),
    ("process_resident_memory_bytes", "gauge", "", "Resident memory size in bytes."),
    ("process_start_time_seconds", "gauge", "",
     "Start time of the process since unix epoch in seconds."),
    ("process_cpu_seconds_total", "counter", "",
     "Total user and system CPU time spent in seconds."),
    ("process_max_fds", "gauge", "", "Maximum number of open file descriptors."),
    ("process_open_fds", "gauge", "", "Number of open file descriptors."),
    ("process_threads", "gauge", "", "Number of threads of the operating system."),
    ("python_gc_objects_collected_total", "counter", "generation", "Objects collected during gc"),
    ("python_gc_objects_uncollectable_total", "counter", "generation",
     "Uncollectable objects found during GC"),
    ("python_gc_collections_total", "counter", "generation",
     "Number of times this generation was collected"),
)  # fmt: skip

SCRAPE = _of(
    "The scrape itself",
    ("netkit_scrape_duration_seconds", "gauge", "part", "Time that reading this part took."),
    ("netkit_scrape_failed", "gauge", "part",
     "1 where this part could not be read, and its series are missing; the log says why."),
)  # fmt: skip

ALL: tuple[Series, ...] = (
    *ENGINE, *NETWORKS, *TRAFFIC, *CHANGES, *OVERLAY, *PROCESS, *SCRAPE,
)  # fmt: skip
BY_NAME = {series.name: series for series in ALL}
