"""The commands of `automem`, one module each or a few that belong together."""
