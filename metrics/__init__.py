"""What metrics_and_performance.py is made of: resampling and tests, thresholds, decisions, calibration."""
