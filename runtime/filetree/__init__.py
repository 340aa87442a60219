"""Trees of files that a container may have changed: walk and remove without leaving them."""
