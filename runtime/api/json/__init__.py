"""Objects as JSON of the Engine API, and filters on lists."""
