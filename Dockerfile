# One image for every role: operator, shadow and, with Envoy from the lock file, router. `make image` builds it.
# Releases pin the base: --build-arg PYTHON_IMAGE=docker.io/library/python:3.12-slim@sha256:…
ARG PYTHON_IMAGE=docker.io/library/python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.13.9
# UV_SYSTEM_CERTS: behind a proxy that signs for itself, the base image's bundle knows it.
ENV UV_SYSTEM_CERTS=1 \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_CACHE_DIR=/var/cache/uv \
    UV_PROJECT_ENVIRONMENT=/opt/agentrollout
RUN python3 -m pip install --no-cache-dir --root-user-action=ignore "uv==${UV_VERSION}"
WORKDIR /src
# What changes seldom first: a change of ours then costs one small layer.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/var/cache/uv \
    uv sync --locked --no-install-project --no-default-groups --group router --extra nats --extra postgres
COPY README.md LICENSE ./
COPY controller controller
RUN --mount=type=cache,target=/var/cache/uv \
    uv sync --locked --no-editable --no-default-groups --group router --extra nats --extra postgres
# The root file system is read-only later. Bytecode of what a role imports is a tenth of that of everything.
RUN /opt/agentrollout/bin/python -c "import controller.cli, controller.wiring, controller.shadow_wiring"
# Envoy itself instead of the wheel's wrapper in Python: it takes signals directly.
RUN ln -sf "$(find /opt/agentrollout/lib -path '*/envoy/_bin/envoy')" /opt/agentrollout/bin/envoy \
    && test -x /opt/agentrollout/bin/envoy

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="agentrollout" \
      org.opencontainers.image.description="Progressive delivery for AI agents on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/agentrollout /opt/agentrollout
# HOME: nobody has one here, and /tmp is what a read-only container can be given to write to.
ENV PATH=/opt/agentrollout/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["agentrollout"]
CMD ["--help"]
