"""The outputs directory of a warm sandbox, which is at the place of a task's outputs while the task runs.
``engines/lent_outputs.py`` says how."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from compute_to_data.disk_usage import DIRECTORY
from compute_to_data.engines import guard_client
from compute_to_data.engines.ownership import place_of
from compute_to_data.errors import EngineError, EngineOutOfReach


class LentOutputs:
    """The directory ``outputs`` below ``area``."""

    def __init__(self, area: str) -> None:
        """``outputs`` exists, with its final owner and mode. OSError."""
        self._area = area
        with place_of(area, DIRECTORY) as place:
            self._state = guard_client.do("outputs state", descriptors=[place])

    def lend(self, outputs: str) -> None:
        """Put the sandbox's directory in the place of a task's new directory, with the content of that. OSError."""
        self._do("lend outputs", outputs)

    def give_back(self, outputs: str) -> None:
        """Undo what :meth:`lend` has done, also after an error in it."""
        with suppress(OSError, EngineOutOfReach):
            self._do("give outputs back", outputs)

    def take(self, outputs: str) -> bool:
        """Take the sandbox's directory back, and leave what the task wrote in the new one.

        False when the directory cannot be as it was before; then either has the content, and is at the path of the
        outputs. EngineError when the content is divided between the two.
        """
        try:
            return bool(self._do("take outputs", outputs, *self._state))
        except OSError as error:  # some of the outputs are now missing
            raise EngineError(outputs, f"the engine could not keep the outputs together ({error.strerror})") from error

    def _do(self, operation: str, outputs: str, *values: Any) -> Any:
        above, name = os.path.split(outputs)
        with place_of(self._area, DIRECTORY) as area, place_of(above, DIRECTORY) as place:
            return guard_client.do(operation, name, *values, descriptors=[area, place])
