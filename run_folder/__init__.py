"""Everything that a run writes and reads back, its lineage, and who else is told."""
