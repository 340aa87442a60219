"""OVN: this host as a chassis, and its networks in the northbound database."""
