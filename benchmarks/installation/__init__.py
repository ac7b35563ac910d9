"""Whether an installation computes what it should: golden outputs of this project, computed again."""
