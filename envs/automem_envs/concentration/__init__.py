"""Concentration: the embedded game, its observations read back, and its scripted players."""

from automem_envs.concentration.world import ConcentrationWorld

__all__ = ["ConcentrationWorld"]
