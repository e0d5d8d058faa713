"""What a form sends: names and values, bounded, and with the proof that the form is one of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from compute_to_data.gateway import request_bounds, uploads
from compute_to_data.gateway.pages.visitor import PROOF, Visitor, need_proof, token_of, visitor
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.uploads import Sent

_MOST_FIELDS = 1000


class Form:
    """The fields of a form that was sent."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields = tuple(fields)

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """All names and values."""
        return self._fields

    def all(self, name: str) -> list[str]:
        """All values of a field, without those that are empty."""
        return [value for field, value in self._fields if field == name and value]

    def one(self, name: str) -> str:
        """The only value of a field, '' without one."""
        return next(iter(self.all(name)), "")

    def has(self, name: str) -> bool:
        """Whether the form sent the field at all."""
        return any(field == name for field, _ in self._fields)

    def beginning(self, prefix: str) -> Mapping[str, str]:
        """The fields whose names begin so, by the rest of their names."""
        return {name[len(prefix) :]: value for name, value in self._fields if name.startswith(prefix)}


class OldProof(HttpError):
    """A form brought back a proof that is none, or not any more. ``sent``: the form."""

    def __init__(self, error: HttpError, sent: Form) -> None:
        super().__init__(error.status, error.subject, error.cause, error.remedy)
        self.sent = sent


async def read(request: Request) -> Form:
    """The fields of a form, whoever sent it. HttpError 415, 413, 408, 400."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HttpError(415, "the form", f"found {kind[:80]!r}, expected application/x-www-form-urlencoded")
    content = await request_bounds.body(request)
    try:
        # Browsers send line ends of a text as CR LF.
        fields = parse_qsl(
            content.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
        )
        return Form([(name, value.replace("\r\n", "\n")) for name, value in fields])
    except ValueError as error:
        raise HttpError(400, "the form", f"cannot be read: {error}") from None


def proven_upload(request: Request, field: str) -> AbstractAsyncContextManager[Sent]:
    """As :func:`uploads.received`, for a person who has signed in. ``field``: what the form has besides the proof and
    the files. HttpError 403 without the proof, which must come before the first file."""
    return uploads.received(
        request, (PROOF, field), lambda fields: need_proof(fields.get(PROOF, ""), token_of(request))
    )


async def form(request: Request, known: Visitor = Depends(visitor)) -> Form:
    """The fields of a form that a person sends who has signed in. OldProof without the proof."""
    found = await read(request)
    try:
        need_proof(found.one(PROOF), token_of(request))
    except HttpError as error:
        raise OldProof(error, found) from None
    return found
