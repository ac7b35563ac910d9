"""Signals at rest: in the cache on the disk, and on their way to the device."""
