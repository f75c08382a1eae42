"""Why a rollout was decided as it was: its evidence over time, for people."""
