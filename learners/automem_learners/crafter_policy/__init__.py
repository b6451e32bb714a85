"""The small Crafter policy: the embedded model's recipe on real Crafter text."""
