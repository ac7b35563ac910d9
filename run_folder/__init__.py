"""Everything that a run writes and reads back, its lineage, and trackers that follow it."""
