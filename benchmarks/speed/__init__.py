"""What the project costs, beside the published way."""
