"""A real server's rules, put into its ``core.py`` for the time of a test, and a user at her terminal.

``C2D_TEST_IRODS_CORE`` names that file (``/etc/irods/core.py``). It is changed, with the configuration
beside it, and put back. Nobody else should need the rules of that server meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.irods_site import RealSite
from support.service_worker import SOURCES
from support.site import PATIENCE

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

CORE = "C2D_TEST_IRODS_CORE"
CHECKOUT = Path(__file__).parents[2]


@dataclass
class Installed:
    """The package for the agents in a folder of its own, and alice at her terminal."""

    site: RealSite
    environment: str
    package: Path
    core: Path
    configuration: Path
    compute: str

    def write_core(self, text: str) -> None:
        """Give the server another ``core.py``, as from the next connection."""
        self.core.write_text(text)
        shutil.rmtree(self.core.parent / "__pycache__", ignore_errors=True)

    def block(self) -> str:
        """What the installer adds to a ``core.py``."""
        sys.path.insert(0, str(CHECKOUT / "packaging"))
        from installer import core_block

        return core_block.make((CHECKOUT / "core.py").read_text(), str(self.package.parent))

    def type(self, *command: str) -> subprocess.CompletedProcess[str]:
        """An icommand of alice's."""
        password = str(Path(self.environment).with_name(".irodsA"))
        environment = {
            **os.environ,
            "IRODS_ENVIRONMENT_FILE": self.environment,
            "IRODS_AUTHENTICATION_FILE": password,
        }
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )

    def dispatch(self, request: str, *options: str) -> subprocess.CompletedProcess[str]:
        file = self.site.place / "call.r"
        call = f'container_dispatch("containers.run", "{request}", "", "", "")'
        file.write_text(f"main {{\n  {call}\n}}\nINPUT null\nOUTPUT ruleExecOut\n")
        return self.type("irule", *options, "-F", str(file))


@contextlib.contextmanager
def rules(zone: IrodsZoneUnderTest, site: RealSite, variable: str = CORE) -> Iterator[Installed]:
    """The server has our rules and the site's configuration while inside. ``variable`` names its ``core.py``."""
    core = Path(os.environ[variable])
    configuration = core.with_name("compute_to_data.json")
    package = zone.make_place("agent") / "compute_to_data"
    shutil.copytree(SOURCES / "compute_to_data", package, ignore=shutil.ignore_patterns("__pycache__"))
    before = {file: file.read_bytes() if file.exists() else None for file in (core, configuration)}
    environment = zone.environment_of(site.alice.user)
    found = Installed(site, environment, package, core, configuration, site.compute_resource(site.role))
    try:
        configuration.write_bytes(Path(site.configuration.source).read_bytes())
        found.write_core(found.block())
        yield found
    finally:
        for file, content in before.items():
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)
        shutil.rmtree(core.parent / "__pycache__", ignore_errors=True)
