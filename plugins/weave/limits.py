"""Bounds of what the weave core takes from other peers, and of what it keeps."""

from __future__ import annotations

ORIGINS = 4096
"""Peers whose records are kept, those that are gone included."""
RECORDS = 4096
"""Live records of one origin."""
TOTAL = 131_072
"""Live records of all origins: beyond that each may have no more than its share."""
KEY = 255
"""Bytes of a record's key."""
VALUE = 1024
"""Bytes of a record's value."""
RECORD = 1096
"""Bytes of a whole record, so that key and value have 970 together: one fits a message."""
DELETIONS = 64
"""Deletions of one origin that are remembered: older ones are learned from a manifest."""
MESSAGE = 1120
"""Bytes of one message to a neighbour (`wire.MAX_MESSAGE`)."""
NEIGHBOURS = 120
"""Of one peer, that it sends to others."""
REFUSED = 4096
"""Peers that were removed or forgotten, and are remembered as that."""
HOPS = 16
"""Of a relayed datagram."""
