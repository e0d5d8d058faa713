"""RO-Crates held against Process Run Crate by the profile's own validator, without a network.

The validator asks for the JSON-LD context of RO-Crate 1.1 by its address. It gets it from a cache
that was filled beforehand from the package ``rocrate``, and nothing else: it runs offline.
"""

from __future__ import annotations

import io
import os
import warnings
from importlib import resources
from pathlib import Path

import pytest

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
PROFILE = "process-run-crate"


def violations(folder: Path, cache: Path) -> dict[str, set[str]]:
    """What a crate in a folder breaks: for ``REQUIRED`` and ``RECOMMENDED`` the checks' names.

    ``cache``: a folder of the test's own. Skips where the validator is not installed, with the
    reason; in CI that is a failure.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the validator and its libraries
        try:
            from rocrate_validator import services
            from rocrate_validator.models import Severity
        except ImportError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"{error} (tests/requirements.txt has it, for Python 3.10 and later)")
        settings = services.ValidationSettings(
            rocrate_uri=str(folder),
            profile_identifier=PROFILE,
            requirement_severity=Severity.RECOMMENDED,
            skip_checks=["ro-crate-1.1_28.1"],  # whether inputs can be had: it does not know irods: URLs
            offline=True,
            cache_path=_filled(cache / "http"),
        )
        issues = services.validate(settings).get_issues()
    found: dict[str, set[str]] = {"REQUIRED": set(), "RECOMMENDED": set()}
    for issue in issues:
        found[issue.severity.name].add(f"{issue.check.identifier} {issue.check.name}")
    return found


def _filled(cache: Path) -> Path:
    import requests
    import requests_cache
    from urllib3 import HTTPResponse

    content = resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes()
    headers = {"Content-Type": "application/ld+json"}
    response = requests.Response()
    response.status_code, response.url = 200, CONTEXT
    response.headers.update(headers)
    response.request = requests.Request("GET", CONTEXT).prepare()
    response.raw = HTTPResponse(
        io.BytesIO(content), headers, status=200, preload_content=False, request_url=CONTEXT, request_method="GET"
    )
    with requests_cache.CachedSession(str(cache), backend="sqlite", expire_after=-1) as session:
        session.cache.save_response(response)
    return cache
