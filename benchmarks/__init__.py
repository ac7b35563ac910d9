"""What the project costs (speed/) and whether its claims hold (studies/)."""
