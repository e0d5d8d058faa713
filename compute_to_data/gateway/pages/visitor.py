"""Who looks at a page, and the proof that a form is one that a page of ours gave to this very browser."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from fastapi import Request

from compute_to_data.client.workbench import Workbench
from compute_to_data.gateway import who
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.pages import chosen_project
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.signing_in.person import Person

_KEY = secrets.token_bytes(32)
"""Of this process: a restart ends all forms, as it ends all tokens."""
PROOF = "proof"
"""The name of the field that carries the proof."""


class SignInFirst(Exception):
    """The page is for people who have signed in."""


@dataclass(frozen=True)
class Visitor:
    """A person at a page. ``proof``: what the page's forms must bring back. ``project``: the collection that they chose
    to work in, '' for none."""

    person: Person
    proof: str
    project: str = ""

    @property
    def name(self) -> str:
        """The user's name without the zone."""
        return self.person.user.name

    @property
    def workbench(self) -> Workbench:
        """For the operations of ``client``, in the person's project."""
        return self.person.workbench(self.project)


def proof_for(token: str) -> str:
    """The proof for forms of the browser that has this token or cookie."""
    return hmac.new(_KEY, token.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def need_proof(given: str, token: str) -> None:
    """HttpError 403 unless a form brought back what its page gave."""
    if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), proof_for(token).encode()):
        cause = "comes from no page that this browser has open, or from before the gateway was started again"
        raise HttpError(403, "the form", cause, "Open the page again, and send the form from there")


async def visitor(request: Request) -> Visitor:
    """The person at the page, by the cookie of their browser. SignInFirst."""
    try:
        person = await who.signed_in(request)
    except HttpError as error:
        if error.status == 401:
            raise SignInFirst from None
        raise
    return Visitor(person, proof_for(token_of(request)), chosen_project.of(request, str(person.user)))


def token_of(request: Request) -> str:
    """The token in the browser's cookie."""
    return request.cookies.get(who.COOKIE, "")


def gateway_of(request: Request) -> Gateway:
    """The gateway that answers."""
    found: Gateway = request.app.state.gateway
    return found
