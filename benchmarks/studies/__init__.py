"""Whether a claim of ours holds."""
