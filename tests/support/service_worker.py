"""A worker in a process of its own, as its host would run it: by the service's account.

That account owns the folder of the configuration file. The server must be able to read what tasks
leave in its vaults, so a worker of a real zone is never root's; in a folder of one's own it is one's own.
A worker of another account runs with ``C2D_TEST_IRODS_PYTHON``, a Python that the account may run, with
what a worker needs; by default the one that runs the tests. It gets at the engine, nobody else does.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import compute_to_data
from compute_to_data.configuration import Configuration
from compute_to_data.coordination import heartbeat
from compute_to_data.model import Entity, EntityKind
from support import outside
