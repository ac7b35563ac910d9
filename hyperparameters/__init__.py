"""Every hyperparameter, declared once; the script's block, YAML and flags are read through that declaration."""
