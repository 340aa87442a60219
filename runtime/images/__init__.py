"""Images: content store, layers, references."""
