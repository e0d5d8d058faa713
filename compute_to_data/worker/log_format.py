"""The form of a worker's log: nothing that a user wrote can begin a line, or reach a terminal as it is."""

from __future__ import annotations

import copy
import logging
from types import TracebackType
from typing import Any

from compute_to_data import plain_text

_FORM = "%(asctime)s %(levelname)s %(name)s %(message)s"
_LONGEST_MESSAGE = 8_000
_LONGEST_TRACEBACK = 32_000
"""Characters. An error may quote what an engine or a zone answered."""


class PlainFormatter(logging.Formatter):
    """One line for each message. The lines of a traceback follow it, indented."""

    def __init__(self) -> None:
        super().__init__(_FORM)

    def formatMessage(self, record: logging.LogRecord) -> str:
        plain = copy.copy(record)
        plain.message = plain_text.one_line(_shortened(record.message, _LONGEST_MESSAGE))
        return super().formatMessage(plain)

    def formatException(self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | Any) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return f"  {plain_text.indented(_shortened(text, _LONGEST_TRACEBACK))}"


def _shortened(text: str, longest: int) -> str:
    """The beginning and the end of a text."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}[...{len(text) - 2 * half} characters...]{text[-half:]}"


def set_up() -> None:
    """Let this process write its log to standard error in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
