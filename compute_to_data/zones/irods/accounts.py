"""The accounts that connect to iRODS: the service account, for itself or for a user, and users themselves."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from irods.account import iRODSAccount

from compute_to_data.errors import ComputeToDataError, ConfigurationError
from compute_to_data.irods_names import check_in_zone
from compute_to_data.model import User, zone_of
from compute_to_data.zones.irods import environment

IINIT_AS_SERVICE = "Run iinit as the service account, or name another environment file"
ANONYMOUS = "anonymous"
"""The user who needs no password."""
LOG_IN = "Log in with: iinit"
"""The remedy when a user's own environment is the problem."""


def from_environment(environment_file: str) -> iRODSAccount:
    """The account that an ``irods_environment.json`` describes, as ``iinit`` wrote it.

    The password file is the one that the environment names, else ``IRODS_AUTHENTICATION_FILE``,
    else ``.irodsA`` in the same directory, else the one in the home directory. It is scrambled with
    the uid of the user who wrote it, who is taken to be its owner. ConfigurationError.
    """
    keys = environment.read(environment_file)
    environment.login_scheme(environment_file, keys)
    name, zone = environment.user(environment_file, keys)
    password_file = _password_file(environment_file, keys)
    try:
        password = environment.stored_password(password_file)
    except FileNotFoundError:
        if name != ANONYMOUS:
            cause = f"no password: {password_file} is not there"
            raise ConfigurationError(environment_file, cause, IINIT_AS_SERVICE) from None
        password = ""
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(password_file, f"cannot be read: {said}", IINIT_AS_SERVICE) from error
    return environment.account(environment_file, keys, name, zone, password)


def home(environment_file: str) -> str:
    """The ``irods_home`` of an environment that :func:`from_environment` could read, '' without one.

    ConfigurationError when it is not a logical path.
    """
    named = str(environment.read(environment_file).get("irods_home", "")).rstrip("/")
    try:
        return check_in_zone(named, zone_of(named)) if named else ""
    except ComputeToDataError as error:
        cause = f"irods_home: found {named!r}, expected a logical path"
        raise ConfigurationError(environment_file, cause) from error


def _password_file(environment_file: str, keys: Mapping[str, Any]) -> str:
    named = keys.get("irods_authentication_file", "")
    beside = os.path.join(os.path.dirname(environment_file), ".irodsA")
    at_home = os.path.expanduser("~/.irods/.irodsA")
    chosen: str = named or os.environ.get("IRODS_AUTHENTICATION_FILE", "")
    return chosen or (beside if os.path.exists(beside) else at_home)


def on_behalf_of(account: iRODSAccount, user: User) -> iRODSAccount:
    """The same account, as the proxy of a client user."""
    proxied = copy.copy(account)
    proxied.client_user, proxied.client_zone = user.name, user.zone
    return proxied


def with_password(account: iRODSAccount, user: User, password: str) -> iRODSAccount:
    """A user's own account on the same server."""
    own = on_behalf_of(account, user)
    own.proxy_user, own.proxy_zone, own.password = user.name, user.zone, password
    return own
