"""Certificates of authorities of the tests' own, made with ``openssl``."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path


def make_authority(place: Path) -> Path:
    """``place.pem`` and ``place.key``; the former."""
    certificate = place.with_suffix(".pem")
    words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={place.name}"]
    _openssl("req", *words, "-keyout", str(place.with_suffix(".key")), "-out", str(certificate))
    return certificate


def make_certificate(authority: Path, place: Path, names: str, *, expired: bool = False) -> tuple[Path, Path]:
    """A certificate for ``names`` (as OpenSSL writes them: ``DNS:a,IP:127.0.0.1``) and its key."""
    key, certificate = place.with_suffix(".key"), place.with_suffix(".pem")
    request, extension = place.with_suffix(".request"), place.with_suffix(".names")
    extension.write_text(f"subjectAltName={names}")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=irods", "-keyout", str(key), "-out", str(request))
    signed = ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-set_serial", str(time.time_ns())]
    signed += ["-days", "-1" if expired else "2", "-extfile", str(extension)]
    _openssl("x509", "-req", "-in", str(request), *signed, "-out", str(certificate))
    return certificate, key


def encrypted(authority: Path) -> dict[str, object]:
    """What an ``irods_environment.json`` has for a server whose certificate ``authority`` has signed."""
    return {
        "irods_client_server_negotiation": "request_server_negotiation",
        "irods_client_server_policy": "CS_NEG_REQUIRE",
        "irods_encryption_algorithm": "AES-256-CBC",
        "irods_encryption_key_size": 32,
        "irods_encryption_num_hash_rounds": 16,
        "irods_encryption_salt_size": 8,
        "irods_ssl_ca_certificate_file": str(authority),
        "irods_ssl_verify_server": "hostname",
    }


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
