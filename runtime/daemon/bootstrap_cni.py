"""Construct the CNI front end."""

from __future__ import annotations

from netkit.frontends.cni.attachments import AttachmentStore
from netkit.frontends.cni.service import CniService
from netkit.kernel import netns
from netkit.spec import NetworkRecord, NetworkSpec
from netkit.store import Database
from runtime.daemon.bootstrap_network import NetworkServices
from runtime.lifecycle.recovery import Recovery
from runtime.network.networks import NetworksService


def build_cni_service(
    database: Database, below: NetworkServices, networks: NetworksService, recovery: Recovery
) -> CniService:
    def create(spec: NetworkSpec) -> NetworkRecord:
        return networks.create(spec).record

    made = CniService(
        below.networks,
        AttachmentStore(database),
        nsid=netns.identity,
        create=create,
        remove=networks.remove,
        settle_names=below.dns_publisher.flush,
    )
    recovery.other_engines.append(made.live)
    return made
