"""Record packets at several points of labs and engines, in the order of the kernel's stamps."""
