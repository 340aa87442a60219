"""Open vSwitch through OVSDB and OpenFlow."""
