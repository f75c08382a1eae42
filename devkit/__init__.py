"""The local control plane: finds or builds, runs and removes what a cluster would bring."""
