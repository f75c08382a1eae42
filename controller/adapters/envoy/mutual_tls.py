"""Mutual TLS between routers and operators: who may read where traffic goes, and whom a router believes.

Both sides read renewed files by themselves. Envoy does so only for secrets that come to it as resources, which is why a
router has two small files that name the PEM files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"

_CERTIFICATE, _AUTHORITY = "xds-certificate", "xds-authority"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files.

    Attributes:
        cert_file: Certificate chain of this side.
        key_file: The certificate's key.
        ca_file: Who signed the certificates of the other side. Use a CA for this alone.
    """

    cert_file: str
    key_file: str
    ca_file: str


@dataclass(frozen=True, slots=True)
class XdsTls:
    """How a router speaks to operators.

    Attributes:
        files: Its own, paths on the router.
        server_name: The name that the operators' certificates have.
        secrets: Directory of what ``secrets`` makes, a path on the router.
    """

    files: TlsFiles
    server_name: str
    secrets: str


def secrets(tls: XdsTls) -> dict[str, dict[str, Any]]:
    """The files that the bootstrap refers to, by name: where Envoy finds certificate and authority, and watches them."""
    files = tls.files
    certificate = {
        "certificate_chain": {"filename": files.cert_file},
        "private_key": {"filename": files.key_file},
        # Kubernetes replaces the directory that a mounted file is in, not the file.
        "watched_directory": {"path": str(PurePath(files.cert_file).parent)},
    }
    authority = {
        "trusted_ca": {"filename": files.ca_file},
        "watched_directory": {"path": str(PurePath(files.ca_file).parent)},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": tls.server_name}}],
    }
    return {
        f"{_CERTIFICATE}.json": _resource(_CERTIFICATE, {"tls_certificate": certificate}),
        f"{_AUTHORITY}.json": _resource(_AUTHORITY, {"validation_context": authority}),
    }


def transport_socket(tls: XdsTls) -> dict[str, Any]:
    """What the bootstrap says of connections to operators."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TLS}.UpstreamTlsContext",
            "sni": tls.server_name,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_certificate_sds_secret_configs": [_found(_CERTIFICATE, tls)],
                "validation_context_sds_secret_config": _found(_AUTHORITY, tls),
            },
        },
    }


def _resource(name: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"resources": [{"@type": f"{_TLS}.Secret", "name": name, **content}]}


def _found(name: str, tls: XdsTls) -> dict[str, Any]:
    path = str(PurePath(tls.secrets) / f"{name}.json")
    return {
        "name": name,
        "sds_config": {"path_config_source": {"path": path}, "resource_api_version": "V3"},
    }
