"""The shadow process: captured pairs in, verdicts out. It needs no Kubernetes."""
