"""TLS to an iRODS server: whether to use it, whom to trust, and what a refusal means.

A client and a server negotiate before they encrypt. python-irodsclient knows the policies ``CS_NEG_REQUIRE`` and
``CS_NEG_REFUSE``; the others are decided here, as iRODS's own clients decide them. It verifies no certificate at all
where no authority is named; we verify as iRODS's own clients do, with the system's authorities and those named.
"""

from __future__ import annotations

import copy
import os
import ssl
from collections.abc import Iterator

from irods.account import iRODSAccount
from irods.client_server_negotiation import REQUEST_NEGOTIATION
from irods.exception import NetworkException

from compute_to_data.errors import Code, ConfigurationError
from compute_to_data.zones.irods.environment import DONT_CARE, IF_THE_SERVER_REQUIRES_IT, REFUSE, REQUIRE

_ATTEMPTS = {
    REQUIRE: (REQUIRE,),
    DONT_CARE: (REQUIRE, REFUSE),
    IF_THE_SERVER_REQUIRES_IT: (REFUSE, REQUIRE),
    REFUSE: (REFUSE,),
}
_SERVER_NEGOTIATION_ERROR = -1825000
_EXPIRED, _NOT_YET_VALID, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64
"""X509_V_ERR_* of OpenSSL."""


def attempts(account: iRODSAccount) -> Iterator[iRODSAccount]:
    """The account with each policy to try, until the server agrees to one.

    ConfigurationError when the authorities that the environment names cannot be read.
    """
    policies = _ATTEMPTS[account.client_server_policy]
    for policy in policies:
        attempt = copy.copy(account)  # threads share the account
        attempt.client_server_policy = policy
        if policies != (REFUSE,):
            attempt.client_server_negotiation = REQUEST_NEGOTIATION
        if policy == REQUIRE:
            attempt.ssl_context = _context(account)
        yield attempt


def remember(account: iRODSAccount, agreed: iRODSAccount) -> None:
    """Once a server has required TLS, it is never again asked without."""
    if account.client_server_policy == IF_THE_SERVER_REQUIRES_IT and agreed.client_server_policy == REQUIRE:
        account.client_server_policy = REQUIRE


class Required(OSError):
    """The server takes no connection without TLS, and the environment refuses TLS."""


def is_required(status: int, account: iRODSAccount) -> bool:
    """Whether a server that answers this to our first message requires TLS: it says so only to those who negotiate."""
    refusals = (Code.SYS_INVALID_INPUT_PARAM, _SERVER_NEGOTIATION_ERROR)  # of 5.0, of 4.3
    return status in refusals and account.client_server_policy == REFUSE


def is_disagreement(error: BaseException) -> bool:
    """Whether client and server have not agreed on TLS, so that another policy may be tried."""
    return isinstance(error, NetworkException) and "negotiation failure" in str(error)


def explained(error: BaseException, account: iRODSAccount) -> tuple[str, str] | None:
    """Cause and remedy of a connection that failed for its encryption; None when something else is the reason."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrusted(error, account)
    if isinstance(error, ssl.SSLError):
        cause = f"TLS failed: {error.reason or error}"
        return cause, "Check the server's certificate, its key and its log"
    file = account.environment_file
    if is_disagreement(error):
        cause = "it refuses TLS, which the environment requires (CS_NEG_REQUIRE)"
        return (
            cause,
            f"Let the server's acPreConnect say CS_NEG_REQUIRE, or change irods_client_server_policy of {file}",
        )
    if isinstance(error, Required):
        cause = "it requires TLS, which the environment refuses (CS_NEG_REFUSE)"
        return cause, f"Set irods_client_server_policy of {file} to CS_NEG_REQUIRE"
    return None


def _distrusted(error: ssl.SSLCertVerificationError, account: iRODSAccount) -> tuple[str, str]:
    file, host = account.environment_file, account.host
    if error.verify_code == _EXPIRED:
        return "its certificate has expired", f"Renew the certificate of {host}"
    if error.verify_code == _NOT_YET_VALID:
        return "its certificate is not valid yet", "Check the clocks of both hosts"
    if error.verify_code in (_OTHER_HOST, _OTHER_ADDRESS):
        cause = f"its certificate is not for the name {host}"
        return cause, f"Set irods_host of {file} to a name in the certificate, or renew it with that name"
    named = account.ssl_ca_certificate_file or account.ssl_ca_certificate_path or "this system's store"
    cause = f"no authority of {named} has signed its certificate ({error.verify_message})"
    return cause, f"Name the authority's certificate in irods_ssl_ca_certificate_file of {file}"


def _context(account: iRODSAccount) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the certificate and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if account.ssl_verify_server != "hostname":
        context.check_hostname = False
    if account.ssl_verify_server == "none":
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    file, path = account.ssl_ca_certificate_file, account.ssl_ca_certificate_path
    if path and not os.path.isdir(path):
        cause = f"irods_ssl_ca_certificate_path: {path} is no directory"
        raise ConfigurationError(account.environment_file, cause, "Name one with certificates of authorities")
    if file or path:
        try:
            context.load_verify_locations(file or None, path or None)
        except OSError as error:  # also what OpenSSL says of a file without a certificate
            said = "has no certificate in PEM" if isinstance(error, ssl.SSLError) else f"{error.strerror}"
            cause = f"irods_ssl_ca_certificate_file: {file}: {said}"
            raise ConfigurationError(account.environment_file, cause, "Name a file with certificates") from error
    return context
