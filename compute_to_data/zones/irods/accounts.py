"""The accounts that connect to iRODS: the service account, for itself or for a user, and users themselves."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

from irods.account import iRODSAccount
from irods.exception import iRODSException
from irods.session import NonAnonymousLoginWithoutPassword, iRODSSession

from compute_to_data.errors import ComputeToDataError, ConfigurationError
from compute_to_data.irods_names import check_in_zone
from compute_to_data.model import User, zone_of

_REMEDY = "Run iinit as the service account, or name another environment file"
LOG_IN = "Log in with: iinit"
"""The remedy when a user's own environment is the problem."""


def from_environment(environment_file: str) -> iRODSAccount:
    """The account that an ``irods_environment.json`` describes, as ``iinit`` wrote it.

    The password file is the one that the environment names, else ``IRODS_AUTHENTICATION_FILE``,
    else ``.irodsA`` in the same directory, else the one in the home directory. It is scrambled with
    the uid of the user who wrote it, who is taken to be its owner. ConfigurationError.
    """
    settings: dict[str, Any] = {"irods_env_file": environment_file}
    try:
        password_file = _password_file(environment_file)
        if os.path.exists(password_file):
            settings["irods_authentication_file"] = password_file
            settings["irods_authentication_uid"] = os.stat(password_file).st_uid
        session = iRODSSession(**settings, auto_cleanup=False)
    except NonAnonymousLoginWithoutPassword as error:
        raise ConfigurationError(environment_file, f"no password: {password_file} is not there", _REMEDY) from error
    except OSError as error:
        raise ConfigurationError(str(error.filename), f"cannot be read: {error.strerror}", _REMEDY) from error
    except (ValueError, TypeError, KeyError, iRODSException) as error:
        raise ConfigurationError(environment_file, f"is no iRODS environment: {error}", _REMEDY) from error
    return session.pool.account


def home(environment_file: str) -> str:
    """The ``irods_home`` of an environment that :func:`from_environment` could read, '' without one.

    ConfigurationError when it is not a logical path.
    """
    named = str(_document(environment_file).get("irods_home", "")).rstrip("/")
    try:
        return check_in_zone(named, zone_of(named)) if named else ""
    except ComputeToDataError as error:
        cause = f"irods_home: found {named!r}, expected a logical path"
        raise ConfigurationError(environment_file, cause) from error


def _document(environment_file: str) -> dict[str, Any]:
    with open(environment_file, encoding="utf-8") as file:
        return dict(json.load(file))


def _password_file(environment_file: str) -> str:
    named = _document(environment_file).get("irods_authentication_file", "")
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
