"""Rollouts in virtual time: the real plan and statistics, with a router, a metric source and users that are numbers."""
