"""The bound with which tests read data objects: more than any of them has."""

from __future__ import annotations

from typing import Final

ENOUGH: Final = 256 * 1024 * 1024
