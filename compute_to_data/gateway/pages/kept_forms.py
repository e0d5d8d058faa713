"""What somebody has filled into a form that cannot be taken now, because their session has ended meanwhile, or because
they signed in once more at another page. They get it back, and need not type it again.

Only for forms that a page of ours has sent: nobody else may put words into a form of somebody who is about to sign in.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from fastapi import Request

from compute_to_data.gateway import who
from compute_to_data.gateway.pages import forms
from compute_to_data.gateway.pages.forms import Form
from compute_to_data.gateway.pages.visitor import PROOF
from compute_to_data.gateway.problems import HttpError

_LONGEST = 256 << 10
"""Characters of a form that is kept. The page for signing in sends them again, in up to three times as many."""
CHANGE = "change"
"""The field with which a form asks to be shown instead of being taken."""


@dataclass(frozen=True)
class KeptForm:
    """A form's fields without its proof, and the address to which it was sent."""

    action: str
    fields: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The fields as one text; see :func:`brought_back`."""
        return urlencode(self.fields, errors="surrogatepass")

    @property
    def shown(self) -> list[tuple[str, str]]:
        """What people need to see of it. Names of parameters have a prefix of two characters."""
        return [(name.removeprefix("p.").replace("_", " "), value) for name, value in self.fields if value]

    @property
    def can_be_changed(self) -> bool:
        """Whether its page can show it filled in."""
        return self.action.startswith("/new/")


def of(request: Request, sent: Form) -> KeptForm | None:
    """What a form of one of our pages has sent; None when that is nothing that anybody filled in."""
    fields = tuple((name, value) for name, value in sent.fields if name not in (PROOF, CHANGE))
    if not fields or not who.is_from_own_page(request):
        return None
    query = request.url.query
    kept = KeptForm(f"{request.url.path}?{query}" if query else request.url.path, fields)
    return kept if len(kept.text) <= _LONGEST else None


async def sent_with(request: Request) -> KeptForm | None:
    """What a request brings that nobody has read yet."""
    if request.method != "POST":
        return None
    try:
        return of(request, await forms.read(request))
    except HttpError:  # for example, files: the browser must send them again
        return None


def brought_back(sent: Form) -> KeptForm | None:
    """What the page for signing in brings back."""
    action, text = sent.one("kept_action"), sent.one("kept")
    is_ours = action.startswith("/") and not action.startswith("//")
    return KeptForm(action, tuple(parse_qsl(text, keep_blank_values=True))) if is_ours and text else None
