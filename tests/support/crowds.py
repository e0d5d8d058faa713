"""Queues of many users, and many collections, written into an embedded catalog at once: one by one takes minutes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing

from compute_to_data.model import Avu, User
from support.site import COMPUTE, ZONE, TrialSite


def queue_for(site: TrialSite, users: int, tasks: int, *, resource: str = COMPUTE) -> None:
    """Queue ``tasks`` collections in turn for ``users`` users, who get an account each. They have no requests."""
    for number in range(users):
        site.zone.add_user(user_name(number))
    attribute = site.configuration.attributes.state
    with closing(sqlite3.connect(f"{site.zone.directory}/zone.db")) as connection, connection:
        query = "SELECT n.id, n.owner_name FROM node n WHERE n.path LIKE ? || '/home/user%'"
        homes = {name: home for home, name in connection.execute(query, (f"/{ZONE}",))}
        (last,) = connection.execute("SELECT max(id) FROM entity").fetchone()
        numbers = range(tasks)
        connection.executemany(
            "INSERT INTO entity VALUES (?, 'collection')", ((last + 1 + number,) for number in numbers)
        )
        owners = [user_name(number % users) for number in numbers]
        now = time.time()
        nodes = (
            (last + 1 + n, homes[owners[n]], f"t{n:06}", f"/{ZONE}/home/{owners[n]}/t{n:06}", owners[n], now)
            for n in numbers
        )
        columns = "id, parent, name, path, owner_name, owner_zone, created, modified"
        connection.executemany(
            f"INSERT INTO node ({columns}) VALUES (?1, ?2, ?3, ?4, ?5, '{ZONE}', ?6, ?6)",
            nodes,
        )
        own = "INSERT INTO access SELECT ?, id, 1200 FROM user WHERE name = ? AND zone = ?"
        connection.executemany(own, ((last + 1 + n, owners[n], ZONE) for n in numbers))
        avus = ((last + 1 + n, attribute, "QUEUED", resource, f"{owners[n]}#{ZONE}") for n in numbers)
        connection.executemany("INSERT INTO avu VALUES (?, ?, ?, ?, ?)", avus)


def make_collections(
    site: TrialSite, owner: User, parent: str, count: int, avus: Sequence[Avu], *, reader: User | None = None
) -> None:
    """Make so many collections of a user in ``parent``, which bear these AVUs. Only ``reader`` has access to them."""
    with closing(sqlite3.connect(f"{site.zone.directory}/zone.db")) as connection, connection:
        ((above,),) = connection.execute("SELECT id FROM node WHERE path = ?", (parent,))
        ((last,),) = connection.execute("SELECT max(id) FROM entity")
        numbers = range(last + 1, last + 1 + count)
        connection.executemany("INSERT INTO entity VALUES (?, 'collection')", ((number,) for number in numbers))
        connection.executemany(
            "INSERT INTO node (id, parent, name, path, owner_name, owner_zone, created, modified) "
            "VALUES (?1, ?2, 'c' || ?1, ?3 || '/c' || ?1, ?4, ?5, ?6, ?6)",
            ((number, above, parent, owner.name, owner.zone, time.time()) for number in numbers),
        )
        connection.executemany(
            "INSERT INTO avu VALUES (?, ?, ?, ?, ?)",
            ((number, one.attribute, one.value, one.units, str(owner)) for number in numbers for one in avus),
        )
        if reader is not None:
            access = "INSERT INTO access SELECT ?, id, 1200 FROM user WHERE name = ? AND zone = ?"
            connection.executemany(access, ((number, reader.name, reader.zone) for number in numbers))


def make_data_objects(site: TrialSite, owner: User, parent: str, count: int) -> None:
    """Make so many empty data objects of a user in ``parent``, on the compute resource. Their files are missing."""
    with closing(sqlite3.connect(f"{site.zone.directory}/zone.db")) as connection, connection:
        ((above,),) = connection.execute("SELECT id FROM node WHERE path = ?", (parent,))
        ((last,),) = connection.execute("SELECT max(id) FROM entity")
        ((resource,),) = connection.execute("SELECT id FROM resource WHERE name = ?", (COMPUTE,))
        ((principal,),) = connection.execute("SELECT id FROM user WHERE name = ?", (owner.name,))
        numbers = range(last + 1, last + 1 + count)
        connection.executemany("INSERT INTO entity VALUES (?, 'data_object')", ((number,) for number in numbers))
        connection.executemany(
            "INSERT INTO node (id, parent, name, owner_name, owner_zone, created, modified) "
            "VALUES (?1, ?2, 'd' || ?1, ?3, ?4, ?5, ?5)",
            ((number, above, owner.name, owner.zone, time.time()) for number in numbers),
        )
        connection.executemany("INSERT INTO access VALUES (?, ?, 1200)", ((number, principal) for number in numbers))
        connection.executemany(
            "INSERT INTO replica VALUES (?1, 0, ?2, 1, 0, '/nowhere/d' || ?1, '')",
            ((number, resource) for number in numbers),
        )


def give_access(site: TrialSite, data_object: str, count: int) -> None:
    """Let so many users, who get accounts, read a data object."""
    parent, _, name = data_object.rpartition("/")
    with closing(sqlite3.connect(f"{site.zone.directory}/zone.db")) as connection, connection:
        query = "SELECT n.id FROM node n JOIN node p ON p.id = n.parent WHERE p.path = ? AND n.name = ?"
        ((node,),) = connection.execute(query, (parent, name))
        ((last,),) = connection.execute("SELECT max(id) FROM entity")
        numbers = range(last + 1, last + 1 + count)
        connection.executemany("INSERT INTO entity VALUES (?, 'user')", ((number,) for number in numbers))
        connection.executemany(
            "INSERT INTO user VALUES (?1, 'reader' || ?1, ?2, 'rodsuser')", ((number, ZONE) for number in numbers)
        )
        connection.executemany("INSERT INTO access VALUES (?, ?, 1050)", ((node, number) for number in numbers))


def user_name(number: int) -> str:
    """The name of one of the users."""
    return f"user{number:04}"


def end_for(site: TrialSite, name: str, tasks: int) -> None:
    """Record ``tasks`` ended tasks of an existing user, with the facts by which tasks are found and listed."""
    prefix = site.configuration.attributes.named("")
    home, user = f"/{ZONE}/home/{name}", f"{name}#{ZONE}"
    with closing(sqlite3.connect(f"{site.zone.directory}/zone.db")) as connection, connection:
        (above,) = connection.execute("SELECT id FROM node WHERE path = ?", (home,)).fetchone()
        (owner,) = connection.execute("SELECT id FROM user WHERE name = ? AND zone = ?", (name, ZONE)).fetchone()
        (last,) = connection.execute("SELECT max(id) FROM entity").fetchone()
        numbers = range(last + 1, last + 1 + tasks)
        now = time.time()
        connection.executemany("INSERT INTO entity VALUES (?, 'collection')", ((one,) for one in numbers))
        columns = "id, parent, name, path, owner_name, owner_zone, created, modified"
        connection.executemany(
            f"INSERT INTO node ({columns}) VALUES (?1, ?2, ?3, ?4, ?5, '{ZONE}', ?6, ?6)",
            ((one, above, ended_name(one), f"{home}/{ended_name(one)}", name, now) for one in numbers),
        )
        connection.executemany("INSERT INTO access VALUES (?, ?, 1200)", ((one, owner) for one in numbers))
        facts = {
            "state": ("COMPLETED", COMPUTE),
            "role": ("CONTAINER", ""),
            "queued_at": ("2026-11-29T09:00:00.000Z", ""),
            "completed_at": ("2026-11-29T09:00:01.000Z", ""),
            "runs": ("true", ""),
        }
        for fact, (value, units) in facts.items():
            rows = ((one, f"{prefix}{fact}", value, units, user) for one in numbers)
            connection.executemany("INSERT INTO avu VALUES (?, ?, ?, ?, ?)", rows)
        rows = ((one, f"{prefix}task_id", ended_name(one), "", user) for one in numbers)
        connection.executemany("INSERT INTO avu VALUES (?, ?, ?, ?, ?)", rows)


def ended_name(number: int) -> str:
    """The id of one of the ended tasks."""
    return f"{number:08x}-0000-4000-8000-000000000000"
