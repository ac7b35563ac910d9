"""The loop, its optimizer and schedule, transfer, and the test set scored once."""
