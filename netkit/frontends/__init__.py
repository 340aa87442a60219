"""Front ends of other engines and monitors: translate their protocols to networks and endpoints."""
