"""When to remember: a small object that decides, step by step, how much memory work is done.

`agent.gate` names it: a fixed rule, or the folder of a gate that was learned and exported
(`automem metamemory`). Without one, every step has its LOG and its consulting in full. The session
knows the protocol in `decision` and nothing of how a gate came about.
"""

from automem.agent.gating.decision import EVERYTHING, Decision, Depth, GateOptions, MemoryGate
from automem.agent.gating.keeper import GateKeeper

__all__ = ["EVERYTHING", "Decision", "Depth", "GateKeeper", "GateOptions", "MemoryGate"]
