"""Serving: the current policy over HTTP."""
