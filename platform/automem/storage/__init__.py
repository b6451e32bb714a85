"""What a run leaves to other machines: an object store, and what lies where in it."""
