"""What a user does, run on the emulated and on the real cluster, so that the two cannot drift."""
