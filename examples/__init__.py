"""Manifests to start from, and the demo."""
