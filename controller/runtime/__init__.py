"""A small runtime for Kubernetes controllers: list+watch, stores, work queues, reconcile loops.

The only layer that speaks to the Kubernetes API; it knows nothing of this product's kinds. The terms are those of
client-go and controller-runtime.
"""
