"""A packet's way, hop by hop: namespaces, wires, bridges, rules, Open vSwitch, tunnels, hosts.

    live.py (the only I/O) --Observer--> walk.py: one host's part of the way, a Leg
                                        |
    the engines of all hosts asked ---> join.py: legs there and back, one verdict --> words.py, JSON

Each engine reports what it sees on its own host; the client joins the legs.  Nothing is
sent and nothing changed.
"""
