"""What the project costs, compared with the published way."""
