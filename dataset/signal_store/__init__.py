"""Signals at rest, in the cache on the disk."""
