"""Loops: what improves an agent from its own episodes, and what decides whether it did."""
