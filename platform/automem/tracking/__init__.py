"""Where a run's figures go besides its folder; `automem.tracker` opens what a run asks for."""
