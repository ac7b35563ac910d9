"""A labels table and a folder -> cohort -> splits -> batches on the device."""
