"""Pictures: curves, ECG paper, attributions."""
