"""gather -> plan -> apply: one file a kind, and the traffic that follows from status."""
