"""The data plane in user space: Ethernet frames between a TAP device and UDP.

    bridge - TAP --> transmit (a process) --> UDP 6783 --> receive (a process) --> TAP - bridge

A frame of the kernel's may have up to 64 KiB (TCP segmentation offload): it is sealed once, cut
into datagrams of the path's size by the kernel (UDP_SEGMENT), joined by the receiving kernel
(UDP_GRO), opened once and given to the other TAP device whole, so that its parts are never
handled one by one.  Small frames that wait together share a datagram.

    framing       the format of datagrams; no I/O
    vnet          the header of virtio that is before each frame of a TAP device; no I/O
    segmentation  frames that are cut in software, for lossy paths and small ones; no I/O
    reassembly    frames of which datagrams came apart; no I/O
    checks        which inner source addresses a peer may use; no I/O
    tables        what a worker is sent: networks, peers, hosts
    sealing       AES-GCM into buffers that are there already
    vectors       sendmsg(2) and recvmsg(2) without a copy in user space
    tap, sockets  the file descriptors
    transmit, receive, worker   the processes
"""
