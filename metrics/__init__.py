"""What metrics_and_performance.py is made of: intervals and tests, calibration, usefulness, a baseline."""
