"""Reviewers: who reads whole episodes and proposes how a scaffold should change."""
