"""An ``irods_environment.json``: what iRODS's own clients read from it, and the account that it describes.

Keys that concern no connection (``irods_cwd``, ``irods_log_level``, transfer sizes and the like) are ignored, as are
unknown ones. ``docs/irods-environment.md`` lists all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from irods import password_obfuscation
from irods.account import iRODSAccount

from compute_to_data.errors import ConfigurationError

NATIVE = "native"
PAM = "pam_password"
_SCHEMES = {"native": NATIVE, "pam": PAM, "pam_password": PAM, "pam_interactive": "pam_interactive"}
"""How users may have authenticated. After a PAM password, ``iinit`` keeps one that the server has made, and which
authenticates as a native one does."""
REQUIRE, DONT_CARE, REFUSE = "CS_NEG_REQUIRE", "CS_NEG_DONT_CARE", "CS_NEG_REFUSE"
IF_THE_SERVER_REQUIRES_IT = ""
"""The policy of an environment that names none."""
_POLICIES = (REQUIRE, DONT_CARE, REFUSE)
_VERIFY = ("hostname", "cert", "none")
_USUAL_NUMBERS = {
    "irods_port": 1247,
    "irods_encryption_key_size": 32,
    "irods_encryption_salt_size": 8,
    "irods_encryption_num_hash_rounds": 16,
}
_USUAL_ALGORITHM = "AES-256-CBC"
"""What iRODS's own clients use where the environment does not say."""
AS_IINIT = "Write it as iinit does"


def read(file: str) -> dict[str, Any]:
    """The keys of an environment file, whatever they are.

    ConfigurationError when it cannot be read or is no JSON object.
    """
    try:
        with open(file, encoding="utf-8") as opened:
            found = json.load(opened)
    except OSError as error:
        raise ConfigurationError(file, f"cannot be read: {error.strerror}", AS_IINIT) from error
    except ValueError as error:
        raise ConfigurationError(file, f"is no iRODS environment: {error}", AS_IINIT) from error
    if not isinstance(found, dict):
        raise ConfigurationError(file, "is no iRODS environment: expected a JSON object", AS_IINIT)
    return found


def account(file: str, keys: Mapping[str, Any], user_name: str, zone_name: str, password: str) -> iRODSAccount:
    """A user's account on the server that ``keys`` of ``file`` describe, which authenticates with ``password``.

    It authenticates as a native password does; ``login_scheme`` says how a password that a user types would.
    ConfigurationError for a value that iRODS's own clients do not take either.
    """
    made = iRODSAccount(
        irods_host=_text(file, keys, "irods_host"),
        irods_user_name=user_name,
        irods_zone_name=zone_name,
        password=password,
        irods_encryption_algorithm=str(keys.get("irods_encryption_algorithm") or _USUAL_ALGORITHM),
        **{name: _number(file, keys, name) for name in _USUAL_NUMBERS},
    )
    made.client_server_policy = _policy(file, keys)
    made.environment_file = file
    for name in ("irods_ssl_ca_certificate_file", "irods_ssl_ca_certificate_path"):
        setattr(made, name[len("irods_") :], str(keys.get(name) or ""))
    made.ssl_verify_server = _one_of(file, "irods_ssl_verify_server", keys.get("irods_ssl_verify_server"), _VERIFY)
    return made


def login_scheme(file: str, keys: Mapping[str, Any]) -> str:
    """How a user's password is checked: ``native``, ``pam_password`` or ``pam_interactive``. ConfigurationError."""
    named = keys.get("irods_authentication_scheme") or NATIVE
    return _SCHEMES[_one_of(file, "irods_authentication_scheme", str(named).lower(), tuple(_SCHEMES))]


def user(file: str, keys: Mapping[str, Any]) -> tuple[str, str]:
    """Name and zone of the environment's own user. ConfigurationError."""
    return _text(file, keys, "irods_user_name"), _text(file, keys, "irods_zone_name")


def stored_password(password_file: str) -> str:
    """What ``iinit`` keeps. It is scrambled with the uid of the user who wrote it, taken to be the file's owner.

    OSError when it cannot be read.
    """
    with open(password_file, encoding="utf-8") as opened:
        scrambled = opened.read().rstrip("\n")
        return str(password_obfuscation.decode(scrambled, os.fstat(opened.fileno()).st_uid))


def _policy(file: str, keys: Mapping[str, Any]) -> str:
    named = keys.get("irods_client_server_policy")
    return _one_of(file, "irods_client_server_policy", named, _POLICIES) if named else IF_THE_SERVER_REQUIRES_IT


def _text(file: str, keys: Mapping[str, Any], name: str) -> str:
    found = keys.get(name)
    if not found:
        raise ConfigurationError(file, f"has no {name}", AS_IINIT)
    if not isinstance(found, str):
        raise ConfigurationError(file, f"{name}: found {found!r}, expected a text")
    return found


def _number(file: str, keys: Mapping[str, Any], name: str) -> int:
    found = keys.get(name, _USUAL_NUMBERS[name])
    try:
        return int(found)
    except (TypeError, ValueError):
        raise ConfigurationError(file, f"{name}: found {found!r}, expected a number") from None


def _one_of(file: str, name: str, found: object, known: tuple[str, ...]) -> str:
    if not found:
        return known[0]
    if found not in known:
        raise ConfigurationError(file, f"{name}: found {found!r}, expected one of {', '.join(known)}")
    return str(found)
