"""A site whose tasks fetch URLs from, and put them to, a web server of the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compute_to_data.model import Entity, EntityKind
from compute_to_data.records import secret
from support.site import TrialSite
from support.url_servers import HttpsServer

KEYS = b"[default]\naws_access_key_id = alice\naws_secret_access_key = a-secret-key\n"
PREFIX = "irods::compute_to_data::"


@dataclass
class Web:
    site: TrialSite
    server: HttpsServer
    ca_file: str

    def allow(self, *more: Any, **sections: Any) -> None:
        """Let the site list the server, and more."""
        engine = {"name": "process", "images": {"tools": str(self.site.folder / "tools")}}
        hosts = [{"name": self.server.host, "private": True}, *more]
        urls = {"hosts": hosts, "ca_file": self.ca_file, **sections.pop("urls", {})}
        self.site.configuration = self.site.configure(engine=engine, urls=urls, **sections)

    def run(self, *argv: str, inputs: Any, **more: Any) -> dict[str, str]:
        return self.site.run(self.site.request(*argv, inputs=inputs, **more))

    def fails(self, url: Any, **more: Any) -> str:
        """The reason of a task that cannot have an input. Nothing that was fetched is left."""
        before = self.site.snapshot()
        submitted = self.site.submit(self.site.request("/bin/true", inputs=[url], **more))
        with self.site.working():
            facts = self.site.ended(submitted)
        assert facts["state"] == "FAILED", facts
        assert self.site.leftovers(submitted) == []
        assert set(self.site.contents(submitted.collection)) == {"task.json"}
        assert self.site.snapshot(without=submitted.collection) == before
        return f"{facts['reason_code']}: {facts['reason']}"


def store(site: TrialSite, name: str, value: bytes) -> None:
    """As ``c2d secret create``."""
    collection = secret.collection_of(site.alice.user, "tempZone")
    site.alice.create_collection(collection, parents=True)
    site.alice.write(f"{collection}/{name}", value)


def avus(site: TrialSite, kind: EntityKind, name: str, attribute: str) -> set[tuple[str, str]]:
    return {(avu.value, avu.units) for avu in site.alice.avus(Entity(kind, name), f"{PREFIX}{attribute}")}
