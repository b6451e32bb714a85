"""Forgetting: what is left of a fact after it was deleted, and taking it out of what was stored."""
