"""The agent's side: the rule engines, core.py, and the package it finds. No zone is needed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compute_to_data
from compute_to_data.doctor.findings import Finding, Patient, ok, problem, python_as, skipped

PYTHON_ENGINE = "irods_rule_engine_plugin-python"
NATIVE_ENGINE = "irods_rule_engine_plugin-irods_rule_language"
BEGIN, END = "# >>> compute_to_data >>>", "# <<< compute_to_data <<<"
_NO_SERVER = "an embedded zone has no iRODS server"

# Loads core.py as an agent does, with stand-ins for the modules that only an agent has.
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
print(json.dumps({
    "rules": rules,
    "exported": list(getattr(core, "__all__", rules)),
    "problem": getattr(core, "_compute_to_data_problem", ""),
    "package": os.path.dirname(getattr(package, "__file__", None) or ""),
    "compiled": os.path.exists(cached),
}))
"""


@dataclass(frozen=True)
class Loaded:
    """What came of loading core.py: the ``error`` that stopped it, or the agent's ``package`` folder,
    whether it is compiled, our rules' modules, what is exported, and the guard's own problem."""

    error: str = ""
    rules: dict[str, str] | None = None
    exported: tuple[str, ...] = ()
    problem: str = ""
    package: str = ""
    compiled: bool = False


def load_core(patient: Patient, names: tuple[str, ...]) -> Loaded:
    """Load core.py in a process of its own, as the service account."""
    done = python_as(patient, _LOAD_CORE, patient.server.irods_configuration, *names)
    if done.returncode != 0:
        return Loaded(error=(done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    found = json.loads(done.stdout.splitlines()[-1])
    return Loaded(**{**found, "exported": tuple(found["exported"])})


def rule_engines(patient: Patient) -> Finding:
    """The stanza in server_config.json, and its order."""
    link, path = "rule engines", f"{patient.server.irods_configuration}/server_config.json"
    if patient.is_embedded:
        return skipped(link, _NO_SERVER)
    document = server_config(patient)
    if isinstance(document, str):
        return problem(link, document, "Run the doctor as root, on the iRODS server; is its setup finished?")
    engines = document.get("plugin_configuration", {}).get("rule_engines", [])
    plugins = [one.get("plugin_name", "") for one in engines]
    stanza = {
        "instance_name": f"{PYTHON_ENGINE}-instance",
        "plugin_name": PYTHON_ENGINE,
        "plugin_specific_configuration": {},
    }
    remedy = f"In rule_engines of {path}, put before the native engine's stanza: {json.dumps(stanza)}"
    if PYTHON_ENGINE not in plugins:
        return problem(link, "the Python rule engine has no stanza", remedy)
    if NATIVE_ENGINE not in plugins:
        return problem(link, "the native rule engine, which writeLine and delay need, has no stanza", "Put it back")
    if plugins.index(PYTHON_ENGINE) > plugins.index(NATIVE_ENGINE):
        return problem(link, "the Python rule engine stands after the native one, which answers first", remedy)
    return ok(link, "the Python rule engine stands before the native one")


def server_config(patient: Patient) -> dict[str, Any] | str:
    """The server's configuration, or why it cannot be seen."""
    path = Path(patient.server.irods_configuration, "server_config.json")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({error})"
    return document if isinstance(document, dict) else f"{path} holds no JSON object"


def core(patient: Patient, loaded: Loaded | None) -> Iterator[Finding]:
    """core.py: our block, that it loads, and that our rules are the real ones."""
    link, path = "core.py", f"{patient.server.irods_configuration}/core.py"
    if patient.is_embedded:
        yield skipped(link, _NO_SERVER)
        return
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        yield problem(link, f"{path} cannot be read ({error.strerror})", "Run packaging/install install")
        return
    if text.count(f"\n{BEGIN}") + text.startswith(BEGIN) != 1 or text.count(f"\n{END}") != 1:
        by_hand = "our block is not in it as its installer writes it"
        if "compute_to_data.rulebase import" not in text:
            yield problem(link, by_hand, "Run packaging/install install, or copy the try block of our core.py")
            return
        yield ok(link, f"{by_hand}, but our rules are imported by hand")
    if loaded is None:
        yield skipped(link, f"only root or {patient.account.name} may load it: it can hold anybody's rules")
        return
    yield _rules_of(link, path, loaded)


def _rules_of(link: str, path: str, loaded: Loaded) -> Finding:
    if loaded.error:
        remedy = f"Mend {path} at once: while it does not load, no client can use the zone"
        return problem(link, f"it does not load: {loaded.error}", remedy)
    rules = loaded.rules or {}
    broken = [name for name, module in rules.items() if not module.startswith("compute_to_data")]
    if broken:
        seen = loaded.problem or f"the rules {', '.join(broken)} are not ours"
        return problem(link, seen, "Put the package back: packaging/install install --force")
    hidden = [name for name in rules if name not in loaded.exported]
    if hidden:
        return problem(link, f"__all__ leaves out {', '.join(hidden)}", "Add them, or move __all__ above our block")
    return ok(link, f"it loads and gives {', '.join(rules)}")


def versions(patient: Patient, loaded: Loaded | None) -> Iterator[Finding]:
    """The agent's package and the worker's, which is this one, are the same, and compiled."""
    link = "versions"
    if patient.is_embedded:
        yield skipped(link, "in an embedded zone, rules and worker share one package")
        return
    if loaded is None or not loaded.package:
        yield skipped(link, "the agent's package was not found: see core.py")
        return
    ours = os.path.dirname(compute_to_data.__file__)
    if fingerprint(loaded.package) != fingerprint(ours):
        seen = f"the agent's package, {loaded.package}, is not the worker's, {ours}"
        yield problem(link, seen, "Run packaging/install install, and restart the workers; remove stray copies")
    else:
        yield ok(link, f"agent and worker have {compute_to_data.__version__}")
    if not loaded.compiled:
        remedy = "Run packaging/install install --force (after an upgrade of Python, too)"
        yield problem(link, f"{loaded.package} is not compiled for the agent's Python: each connection does", remedy)


def fingerprint(package: str) -> str:
    """Changes with each byte of a package's modules and data."""
    digest = hashlib.sha256()
    root = Path(package)
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def delay_server(patient: Patient) -> Finding:
    """Whether delayed rules get executors, and run here."""
    link = "delay server"
    if patient.is_embedded:
        return skipped(link, _NO_SERVER)
    document = server_config(patient)
    if isinstance(document, str):
        return problem(link, document, "Run the doctor as root, on the iRODS server")
    settings = document.get("advanced_settings", {})
    executors = settings.get("number_of_concurrent_delay_rule_executors", 4)
    pause = settings.get("delay_server_sleep_time_in_seconds", 30)
    if not isinstance(executors, int) or executors < 1:
        remedy = "Give advanced_settings.number_of_concurrent_delay_rule_executors at least 1 (iRODS: 4)"
        return problem(link, f"it has {executors} executors, so no delayed rule runs", remedy)
    if not _runs("irodsDelayServer"):
        return skipped(link, "its process is not on this server: iadmin get_delay_server_info names its leader")
    return ok(link, f"it runs, with {executors} executors, and looks every {pause} s")


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
