"""iptables-legacy through python-iptables, in a process of its own.

    daemon (client.py) == socketpair, one JSON document a line == __main__.py -> commit.py -> iptc

Of its own because python-iptables crashes in threads, keeps the namespace it was imported in,
and takes 0.2 s to import.  Nothing outside commit.py imports it.
"""
