"""Chooses the image for a Python function that names none."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from compute_to_data.client import site
from compute_to_data.errors import InvalidRequest

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

_PYTHON = re.compile(r"(?:.*/)?(?:python|jupyter[a-z0-9-]*|[a-z0-9-]*notebook)(?::(?P<tag>.*))?")
_SHOWN = 10


def choose(workbench: Workbench, function: str) -> str:
    """The image with Python that the function runs in: the only image there is; else the only Python of this
    program's version; else the only Python. InvalidRequest, with the names, when that leaves a choice."""
    names = _names(workbench)
    pythons = [name for name in names if _PYTHON.fullmatch(name)]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    same = [name for name in pythons if (_tag(name) + "-").startswith((f"{version}-", f"{version}."))]
    for some in (names, same, pythons):
        if len(some) == 1:
            return some[0]
    some = pythons or names
    listed = ", ".join(some[:_SHOWN]) + (" and more" if len(some) > _SHOWN else "")
    cause = f"names no image, and there are several: {listed}" if some else "names no image, and none is known here"
    remedy = f'Name one that has Python: @c2d.as_task(image="{some[0] if some else "python:3.12"}")'
    raise InvalidRequest(f"function {function}", cause, remedy)


def _tag(python: str) -> str:
    found = _PYTHON.fullmatch(python)
    return (found and found["tag"]) or ""


def _names(workbench: Workbench) -> list[str]:
    """The images that are there; where that is not known, those that the site allows by name."""
    resources = [one for one in site.resources(workbench) if one.images is not None]
    held: Iterable[str] = {name for one in resources for name in one.images or ()}
    allowed = (rule["name"] for rule in site.images(workbench) if "name" in rule)
    return sorted(held if resources else set(allowed))
