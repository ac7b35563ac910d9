"""Whether our claims hold."""
