"""Every hyperparameter, declared once; script block, YAML and flags are read through that declaration."""
