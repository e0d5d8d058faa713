"""Adapters that a helper beside the program serves: the helper's words, and where the program finds its files."""

from __future__ import annotations

from compute_to_data.model import name_of
from compute_to_data.task import Adapter, Channel, ChannelKind, ProcessDefinition

FOLDER = "/tmp/adapters"
"""Where the sandbox has pipes and appended files that argv names."""


def place(adapter: Adapter | None, side: str, file: str) -> str:
    """The path that the program uses in place of ``file``, the task's own input or output. ``side``: in, out."""
    if not isinstance(adapter, Channel) or adapter.kind is ChannelKind.TCP:
        return file
    if adapter.path:
        return adapter.path
    if adapter.kind is ChannelKind.APPEND and side == "out":
        return file  # the program can append to the output itself
    return f"{FOLDER}/{side}/{name_of(file)}"


def helper(process: ProcessDefinition, given: str, left: str) -> tuple[str, ...]:
    """``Job.helper`` for a process with the input ``given`` and the output ``left``; () when it needs none."""
    sides = ((process.input_adapter, "in", given), (process.output_adapter, "out", left))
    if not any(isinstance(adapter, Channel) for adapter, _, _ in sides):
        return ()
    return tuple(word for side in sides for word in _words(*side))


def _words(adapter: Adapter | None, side: str, file: str) -> tuple[str, ...]:
    """The five words for one side (``engines/channels.py``)."""
    if not isinstance(adapter, Channel):
        return ("", "", "", "0", "0")
    return (adapter.kind.value, file, place(adapter, side, file), str(adapter.port), str(adapter.chunk_bytes))
