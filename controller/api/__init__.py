"""The kinds of ``agentrollout.dev/v1alpha1`` as pydantic models; the CRDs in ``crds/`` are generated from them."""

GROUP = "agentrollout.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
