"""How a real zone's listing grows with its tasks, and what people who wait with ``irule`` ask of its catalog.

    python tests/benchmarks/real_scale.py tasks [--most 100000]
    python tests/benchmarks/real_scale.py waiting [--people 100] [--seconds 60]

``tests/support/irods_site.py`` and ``irods_server.py`` say what is needed. ``C2D_TEST_IRODS_SQL`` is a shell command
that runs the SQL on its standard input in the catalog's database (PostgreSQL), as its superuser, and prints bare rows.

``tasks`` makes ten tasks as ``real_zone.py`` does, and copies them inside the database: calls would take an hour.
``waiting`` counts the statements that the database logs, which it is told to do meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "benchmarks"), str(ROOT / "tests" / "contract")]

from irods_zone import IrodsZoneUnderTest  # noqa: E402
from real_zone import facts  # noqa: E402
from support.irods_server import Installed, rules  # noqa: E402
from support.irods_site import open_zone, plain_site  # noqa: E402

import compute_to_data as c2d  # noqa: E402
from compute_to_data.model import Avu, Entity, EntityKind  # noqa: E402
from compute_to_data.records.state import State  # noqa: E402

SQL = "C2D_TEST_IRODS_SQL"
MARK = "c2d-copy"
FIRST = 10
COPY = """
CREATE TEMP TABLE c AS SELECT k, old, (SELECT last_value FROM r_objectid) + 40 * row_number() OVER (ORDER BY k, old) AS new
  FROM (SELECT coll_id AS old FROM r_coll_main WHERE parent_coll_name = '{top}' AND r_comment IS DISTINCT FROM '{mark}') o,
  generate_series({begin}, {end}) k;
SELECT setval('r_objectid', (SELECT max(new) FROM c) + 40);
INSERT INTO r_coll_main SELECT new, parent_coll_name, coll_name || '-' || k, coll_owner_name, coll_owner_zone, coll_map_id,
  coll_inheritance, coll_type, coll_info1, coll_info2, coll_expiry_ts, '{mark}', create_ts, modify_ts
  FROM c JOIN r_coll_main ON coll_id = old;
INSERT INTO r_objt_access SELECT new, user_id, access_type_id, create_ts, modify_ts FROM c JOIN r_objt_access ON object_id = old;
CREATE TEMP TABLE m AS SELECT new AS object, meta_id AS old_meta, k, m.create_ts, m.modify_ts,
  CASE WHEN meta_attr_name ~ '::(task_id|name|command|fingerprint|outputs_digest|input|[a-z_]+_at)$'
  THEN nextval('r_objectid') END AS new_meta
  FROM c JOIN r_objt_metamap m ON object_id = old JOIN r_meta_main USING (meta_id);
INSERT INTO r_meta_main SELECT new_meta, meta_namespace, meta_attr_name,
  CASE WHEN meta_attr_name LIKE '%_at' THEN regexp_replace(meta_attr_value, 'T..:..:', to_char(k % 1440 * interval '1 minute', '"T"HH24:MI:'))
  ELSE meta_attr_value || '-' || k END, meta_attr_unit, '{mark}', r.create_ts, r.modify_ts
  FROM m JOIN r_meta_main r ON meta_id = old_meta WHERE new_meta IS NOT NULL;
INSERT INTO r_objt_metamap SELECT object, coalesce(new_meta, old_meta), create_ts, modify_ts FROM m;
DROP TABLE c, m;
ANALYZE r_coll_main; ANALYZE r_objt_access; ANALYZE r_objt_metamap; ANALYZE r_meta_main;
"""  # noqa: E501
REMOVE = """
CREATE TEMP TABLE c AS SELECT coll_id FROM r_coll_main WHERE parent_coll_name = '{top}' AND r_comment = '{mark}';
DELETE FROM r_objt_metamap WHERE object_id IN (SELECT coll_id FROM c);
DELETE FROM r_objt_access WHERE object_id IN (SELECT coll_id FROM c);
DELETE FROM r_coll_main WHERE coll_id IN (SELECT coll_id FROM c);
DELETE FROM r_meta_main WHERE r_comment = '{mark}';
"""
PAGES: dict[str, dict[str, Any]] = {
    "the first page": {},
    "its page 10": {"offset": 450},
    "failed ones": {"states": (State.FAILED,)},
}


def sql(text: str) -> str:
    """What the catalog's database answers."""
    return subprocess.run(
        ["/bin/sh", "-c", os.environ[SQL]], input=text, check=True, capture_output=True, text=True
    ).stdout


def tasks(zone: IrodsZoneUnderTest, most: int) -> None:
    user = zone.make_user()
    catalog, top = zone.session(user), zone.scratch(user)
    for number in range(FIRST):
        collection = f"{top}/task-{number:05}"
        catalog.create_collection(collection)
        catalog.annotate(Entity(EntityKind.COLLECTION, collection), add=facts(number, user))
    configuration = zone.make_place("client") / "config.json"
    settings = {"zone": {"kind": "irods", "environment_file": zone.environment_of(user)}, "attributes": {}}
    configuration.write_text(json.dumps(settings))
    try:
        copies = 1
        for count in [FIRST * 10**power for power in range(0, 9, 2) if FIRST * 10**power <= most]:
            if count > FIRST:
                began = time.monotonic()
                sql(COPY.format(begin=copies, end=count // FIRST - 1, top=top, mark=MARK))
                copies = count // FIRST
                print(f"{count} tasks are there after {time.monotonic() - began:.0f} s more", flush=True)
            listed(count, configuration)
    finally:
        sql(REMOVE.format(top=top, mark=MARK))


def listed(count: int, configuration: Path) -> None:
    """A page of the user's tasks, in one session; and once as ``c2d list``, which starts and connects."""
    with c2d.connect(str(configuration), str(configuration.with_name("session.json"))) as session:
        for title, chosen in PAGES.items():
            found, seconds = session.tasks(limit=50, **chosen), []
            for _ in range(15):
                began = time.monotonic()
                session.tasks(limit=50, **chosen)
                seconds.append(time.monotonic() - began)
            print(
                f"{count:7} tasks: {title:16} {len(found):4} shown, median {statistics.median(seconds):6.3f} s, least "
                f"{min(seconds):6.3f} s, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    command = [sys.executable, "-m", "compute_to_data.cli.main", "list", "--config-file", str(configuration)]
    seconds, before = [], resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(5):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.monotonic() - began)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = (used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime) / len(seconds)
    print(
        f"{count:7} tasks: c2d list, median {statistics.median(seconds):.2f} s, least {min(seconds):.2f} s, its own "
        f"processor time {own:.2f} s, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def waiting(zone: IrodsZoneUnderTest, people: int, seconds: float) -> None:
    site = plain_site(zone)
    with rules(zone, site) as installed:
        now, name = int(time.time()), site.configuration.attributes.named("worker")
        signs = [Avu(name, "bench:0", str(now + 50 + 100 * number)) for number in range(12)]  # one of them is fresh
        zone.storage().catalog.annotate(Entity(EntityKind.RESOURCE, installed.compute), add=signs)
        document = site.request("/bin/true", resource=installed.compute)
        site.alice.write(f"{site.home}/task.json", json.dumps(document).encode())
        began = time.time()
        with logging_statements(), waiters(installed, people):
            queued = len(site.alice.children(f"{site.home}/out"))
            print(f"{queued} tasks queued after {time.time() - began:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)
            start = time.time() + 10  # waiting is quicker in the first ten seconds
            time.sleep(10 + seconds)
            moments = [moment for moment in questions() if start <= moment < start + seconds]
    each = Counter(int(moment - start) for moment in moments)
    print(
        f"{people} people wait by irule for {seconds:g} s: {len(moments) / seconds:.1f} catalog questions a second, "
        f"at most {max(each.values(), default=0)} in one, load {os.getloadavg()[0]:.1f}"
    )


@contextmanager
def waiters(installed: Installed, people: int) -> Iterator[None]:
    """So many terminals wait for a task each, once all are queued."""
    file = installed.site.place / "wait.r"
    call = f'container_dispatch("containers.run", "{installed.site.home}/task.json", "", "", "")'
    file.write_text(f"main {{\n  {call}\n}}\nINPUT null\nOUTPUT ruleExecOut\n")
    password = str(Path(installed.environment).with_name(".irodsA"))
    environment = {
        **os.environ,
        "IRODS_ENVIRONMENT_FILE": installed.environment,
        "IRODS_AUTHENTICATION_FILE": password,
    }
    started = [
        subprocess.Popen(["irule", "-F", str(file)], env=environment, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(people)
    ]  # fmt: skip
    try:
        out, deadline = f"{installed.site.home}/out", time.monotonic() + 600
        while len(installed.site.alice.children(out)) < people and time.monotonic() < deadline:
            time.sleep(1)
        yield
    finally:
        for one in started:
            one.kill()
            one.wait()


@contextmanager
def logging_statements() -> Iterator[None]:
    sql("ALTER SYSTEM SET log_statement = 'all'; ALTER SYSTEM SET log_timezone = 'UTC'; SELECT pg_reload_conf();")
    try:
        yield
    finally:
        sql("ALTER SYSTEM RESET log_statement; ALTER SYSTEM RESET log_timezone; SELECT pg_reload_conf();")


def questions() -> list[float]:
    """When the database was asked for AVUs, in Unix seconds, by its log."""
    name = sql(
        "SELECT name FROM pg_ls_dir('/var/log/postgresql') name WHERE name LIKE '%.log' ORDER BY name DESC LIMIT 1;"
    )
    text = sql(f"SELECT pg_read_file('/var/log/postgresql/{name.strip()}');")
    found = re.findall(
        r"^(\S+ \S+) UTC \[\d+\] \S+ LOG:  (?:statement|execute [^:]*): *select[^\n]*r_meta_main", text, re.M | re.I
    )
    return [datetime.strptime(one, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=timezone.utc).timestamp() for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tasks", "waiting"])
    parser.add_argument("--most", type=int, default=100_000, help="tasks")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    zone = open_zone()
    try:
        if given.what == "tasks":
            tasks(zone, given.most)
        else:
            waiting(zone, given.people, given.seconds)
    finally:
        zone.close()


if __name__ == "__main__":
    main()
