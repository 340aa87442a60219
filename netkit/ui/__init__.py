"""A page in the browser: hosts, networks and containers as a map that follows the engines."""
