"""Memory as a skill: the runtime of the AutoMem platform."""
