"""What the project costs (speed/), whether its claims hold (studies/), golden outputs (installation/)."""
