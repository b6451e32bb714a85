"""Learners: what turns traces into better models."""
