"""An overlay without a master: hosts find each other over UDP; their containers reach each other.

This package decides, and does nothing else: no sockets, no clock, no threads.  `now` (seconds,
monotonic) and random bytes are arguments; what is to be sent and kept comes back as values
(`plugins.weave.step`). The process that has the sockets is netkit/overlay.  `cryptography` is
imported by `primitives` alone, so that a daemon which only lists drivers does not load it.
"""
