"""Containers as data: configuration, state, validation, storage."""
