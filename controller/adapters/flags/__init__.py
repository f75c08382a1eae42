"""Servers of feature flags, as sources of kill switches."""
