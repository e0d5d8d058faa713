"""Values that come beside a request: from a rule's arguments or a command's options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GivenBeside:
    """A resource, a logical path for results, and an image's name; '' for each that is not given.

    They override what the request itself says.
    """

    resource: str = ""
    output_collection: str = ""
    image: str = ""
