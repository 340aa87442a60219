"""tar archives: headers, members, sparse files and compression, read within bounds."""
