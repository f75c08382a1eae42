"""Queues between capture and judges."""
