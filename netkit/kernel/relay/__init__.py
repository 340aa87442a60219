"""Impair the frames of a link in user space, where the kernel has no netem.

The link is cut, and a tap device stands at each end: bridge ports, or whatever takes frames.  A
process of two, a worker and its supervisor, carries frames from one to the other (`worker`) as
`way` decides.  While it is away no frame passes: the link is down rather than unimpaired.
"""
