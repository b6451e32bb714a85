"""Metamemory: a small learned gate that decides when remembering is worth its tokens."""
