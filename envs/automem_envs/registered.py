"""Importing this makes every world known to Gymnasium: for its ids of the form `module:id`.

`gymnasium.make("automem_envs.registered:automem/Concentration-v0")` needs no other line.
"""

from automem_envs.registration import register_worlds

register_worlds()
