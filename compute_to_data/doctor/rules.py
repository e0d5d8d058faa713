"""Checks of the agents' side: rule engines, core.py, and the package that it imports. They need no zone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compute_to_data
from compute_to_data.doctor.findings import Finding, ok, problem, skipped
from compute_to_data.doctor.installation import Installation, python_as

PYTHON_ENGINE = "irods_rule_engine_plugin-python"
NATIVE_ENGINE = "irods_rule_engine_plugin-irods_rule_language"
BEGIN, END = "# >>> compute_to_data >>>", "# <<< compute_to_data <<<"
_NO_SERVER = "an embedded zone has no iRODS server"

# Loads core.py as an agent does. Stand-ins replace the modules that exist only in an agent.
_LOAD_CORE = """
import importlib.util, json, os, sys, types

class Anything(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

for name in ("irods_types", "irods_errors", "genquery", "session_vars"):
    sys.modules[name] = Anything(name)
folder = sys.argv[1]
sys.path.append(folder)
specification = importlib.util.spec_from_file_location("core", os.path.join(folder, "core.py"))
core = importlib.util.module_from_spec(specification)
specification.loader.exec_module(core)
rules = {name: getattr(getattr(core, name, None), "__module__", "") for name in sys.argv[2:]}
package = sys.modules.get("compute_to_data")
cached = getattr(getattr(package, "__spec__", None), "cached", None) or ""
print("\\nloaded:" + json.dumps({  # core.py may have printed, and may print at the end
    "rules": rules,
    "exported": list(getattr(core, "__all__", rules)),
    "problem": getattr(core, "_compute_to_data_problem", ""),
    "package": os.path.dirname(getattr(package, "__file__", None) or ""),
    "compiled": os.path.exists(cached),
}))
"""


@dataclass(frozen=True)
class Loaded:
    """The result of loading core.py. ``error``: why it did not load, or ''. ``rules``: the module of
    each of our rules. ``exported``: the names in its ``__all__``. ``problem``: what our block in
    core.py reports. ``package``: the folder of the package that it imports. ``compiled``: whether
    that package is compiled."""

    error: str = ""
    rules: dict[str, str] | None = None
    exported: tuple[str, ...] = ()
    problem: str = ""
    package: str = ""
    compiled: bool = False


def load_core(installation: Installation, names: tuple[str, ...]) -> Loaded:
    """Load core.py in a new process, as the service account."""
    done = python_as(installation, _LOAD_CORE, installation.server.irods_configuration, *names)
    if done.returncode != 0:
        return Loaded(error=(done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    _, mark, rest = done.stdout.rpartition("\nloaded:")
    if not mark:
        return Loaded(error="it ends the process that loads it")
    found = json.loads(rest.splitlines()[0])
    return Loaded(**{**found, "exported": tuple(found["exported"])})


def rule_engines(installation: Installation) -> Finding:
    """Check that server_config.json has the Python rule engine before the native one."""
    link, path = "rule engines", f"{installation.server.irods_configuration}/server_config.json"
    if installation.is_embedded:
        return skipped(link, _NO_SERVER)
    document = server_config(installation)
    if isinstance(document, str):
        remedy = "Run the doctor as root, on an iRODS server whose setup is finished"
        return problem(link, document, remedy)
    try:
        plugins = [str(one.get("plugin_name", "")) for one in document["plugin_configuration"]["rule_engines"]]
    except (KeyError, TypeError, AttributeError):
        seen = f"{path} has no list plugin_configuration.rule_engines of objects"
        return problem(link, seen, "Restore the file from a backup, or finish the server's setup")
    stanza = {
        "instance_name": f"{PYTHON_ENGINE}-instance",
        "plugin_name": PYTHON_ENGINE,
        "plugin_specific_configuration": {},
    }
    remedy = f"In rule_engines of {path}, insert before the native engine's entry: {json.dumps(stanza)}"
    if PYTHON_ENGINE not in plugins:
        return problem(link, "the Python rule engine has no entry", remedy)
    if NATIVE_ENGINE not in plugins:
        seen = "the native rule engine, which writeLine and delay need, has no entry"
        return problem(link, seen, f"Restore its entry in rule_engines of {path}")
    if plugins.index(PYTHON_ENGINE) > plugins.index(NATIVE_ENGINE):
        return problem(link, "the Python rule engine comes after the native one, which answers first", remedy)
    return ok(link, "the Python rule engine comes before the native one")


def server_config(installation: Installation) -> dict[str, Any] | str:
    """The server's configuration, or why it cannot be read."""
    path = Path(installation.server.irods_configuration, "server_config.json")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({error})"
    return document if isinstance(document, dict) else f"{path} is not a JSON object"


def core(installation: Installation, loaded: Loaded | None) -> Iterator[Finding]:
    """Check that core.py has our block, that it loads, and that it gives our rules."""
    link, path = "core.py", f"{installation.server.irods_configuration}/core.py"
    if installation.is_embedded:
        yield skipped(link, _NO_SERVER)
        return
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        yield problem(link, f"{path} cannot be read ({error.strerror})", "Run packaging/install install")
        return
    if text.count(f"\n{BEGIN}") + text.startswith(BEGIN) != 1 or text.count(f"\n{END}") != 1:
        missing = "it does not have our block as the installer writes it"
        if "compute_to_data.rulebase import" not in text:
            remedy = f"Run packaging/install install, or copy the try block of our core.py into {path}"
            yield problem(link, missing, remedy)
            return
        yield ok(link, f"{missing}, but it imports our rules")
    if loaded is None:
        yield skipped(link, f"it can hold any code, so only root or {installation.account.name} can test that it loads")
        return
    yield _rules_of(link, path, loaded)


def _rules_of(link: str, path: str, loaded: Loaded) -> Finding:
    if loaded.error:
        remedy = f"Repair {path} at once: while it does not load, no client can use the zone"
        return problem(link, f"it does not load: {loaded.error}", remedy)
    rules = loaded.rules or {}
    broken = [name for name, module in rules.items() if not module.startswith("compute_to_data")]
    if broken:
        seen = loaded.problem or f"the rules {', '.join(broken)} are not ours"
        return problem(link, seen, "Reinstall the package: packaging/install install --force")
    hidden = [name for name in rules if name not in loaded.exported]
    if hidden:
        return problem(link, f"its __all__ lacks {', '.join(hidden)}", "Add them, or move __all__ above our block")
    return ok(link, f"it loads and gives {', '.join(rules)}")


def versions(installation: Installation, loaded: Loaded | None) -> Iterator[Finding]:
    """Check that the agents' package equals the workers' package, which is this one, and is compiled."""
    link = "versions"
    if installation.is_embedded:
        yield skipped(link, "in an embedded zone, rules and worker share one package")
        return
    if loaded is None or not loaded.package:
        yield skipped(link, "the agents' package was not found; see core.py above")
        return
    ours = os.path.dirname(compute_to_data.__file__)
    if fingerprint(loaded.package) != fingerprint(ours):
        seen = f"the agents' package, {loaded.package}, differs from the workers' package, {ours}"
        remedy = "Run packaging/install install, and restart the workers. Remove other copies of the package"
        yield problem(link, seen, remedy)
    else:
        yield ok(link, f"agents and workers have version {compute_to_data.__version__}")
    if not loaded.compiled:
        seen = f"{loaded.package} is not compiled for the agents' Python, so each connection compiles it"
        yield problem(link, seen, "Run packaging/install install --force, also after each upgrade of Python")


def fingerprint(package: str) -> str:
    """A hash of the package's modules and data."""
    digest = hashlib.sha256()
    root = Path(package)
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def delay_server(installation: Installation) -> Finding:
    """Check that delayed rules have executors, and whether the delay server runs on this host."""
    link = "delay server"
    if installation.is_embedded:
        return skipped(link, _NO_SERVER)
    document = server_config(installation)
    if isinstance(document, str):
        return problem(link, document, "Run the doctor as root, on the iRODS server")
    found = document.get("advanced_settings", {})
    settings = found if isinstance(found, dict) else {}
    executors = settings.get("number_of_concurrent_delay_rule_executors", 4)
    pause = settings.get("delay_server_sleep_time_in_seconds", 30)
    if not isinstance(executors, int) or executors < 1:
        remedy = "Set advanced_settings.number_of_concurrent_delay_rule_executors to at least 1 (the default is 4)"
        return problem(link, f"it has {executors} executors, so no delayed rule runs", remedy)
    if not _runs("irodsDelayServer"):
        return skipped(link, "it does not run on this server; iadmin get_delay_server_info names its server")
    return ok(link, f"it runs, with {executors} executors, and looks for rules every {pause} s")


def _runs(program: str) -> bool:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.path.basename(words[0]).decode(errors="replace") == program:
                return True
    return False
