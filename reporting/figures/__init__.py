"""Figures: curves, ECG paper, attributions."""
