"""Inputs that URLs name: the worker fetches them from a real HTTPS server and a real S3 server."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support import url_servers
from support.reading import ENOUGH
from support.site import BASE_IMAGE, COMPUTE, HOME, TrialSite, wait_until
from support.url_servers import Handler, HttpsServer, S3Server, s3_server, s3_session, sha256
from support.web_site import KEYS, Web, avus, store

from compute_to_data.client import fetching
from compute_to_data.client.results import without_records
from compute_to_data.errors import NotFound, Refused
from compute_to_data.model import DataObject, Entity, EntityKind
from compute_to_data.pipeline.staging import fetch_room
from compute_to_data.records import cancel
from compute_to_data.records.state import State
from compute_to_data.submission import rerun


def test_a_url_is_an_input_with_its_checksum_and_its_url(web: Web) -> None:
    web.server.pages["/deep/sea.txt?key=hidden"] = b"some water\n"
    url = web.server.url("/deep/sea.txt?key=hidden")
    facts = web.run("/bin/sh", "-c", "cat /inputs/sea.txt > copy; ls /inputs >> copy", inputs=[url])
    assert facts["state"] == "COMPLETED", facts.get("reason")
    collection, site = facts["collection"], web.site
    assert site.contents(collection)["copy"] == b"some water\nsea.txt\n"
    fetched = site.alice.stat(f"{collection}/fetched_inputs/sea.txt")
    assert isinstance(fetched, DataObject)
    assert (fetched.owner, [one.leaf for one in fetched.replicas]) == (site.alice.user, [COMPUTE])
    checksum = fetched.replicas[0].checksum
    assert site.storage.verify(fetched.logical_path, 0) == checksum
    shown = f"{web.server.url('/deep/sea.txt')}?..."
    assert avus(site, EntityKind.DATA_OBJECT, fetched.logical_path, "url") == {(shown, "")}
    assert avus(site, EntityKind.COLLECTION, collection, "url") == {(shown, checksum)}
    assert avus(site, EntityKind.COLLECTION, collection, "input") == {(fetched.logical_path, checksum)}
    assert avus(site, EntityKind.DATA_OBJECT, f"{collection}/copy", "url") == {(shown, checksum)}
    graph = json.loads(site.alice.read(f"{collection}/ro-crate-metadata.json", ENOUGH))["@graph"]
    (entity,) = [one for one in graph if one.get("name") == fetched.logical_path]
    assert (entity["url"], entity["identifier"]) == (shown, checksum)
    every = site.alice.avus(Entity(EntityKind.COLLECTION, collection))
    assert "hidden" not in f"{every}{graph}"
    assert web.server.requests.paths == ["/deep/sea.txt?key=hidden"], "it is fetched once"


def test_what_was_fetched_is_no_result(web: Web) -> None:
    web.server.pages["/a"] = b"a"
    facts = web.run("/bin/cp", "/inputs/x/a", "copy", inputs=[{"url": web.server.url("/a"), "name": "x/a"}])
    held = web.site.contents(facts["collection"])
    assert set(without_records(dict.fromkeys(held))) == {"copy"}  # type: ignore[arg-type]
    catalog: Any = web.site.alice
    fetching.fetch(catalog, facts["collection"], str(web.site.folder / "here"), folder="all")
    assert not (web.site.folder / "here" / "all" / "fetched_inputs").exists()
    assert (web.site.folder / "here" / "all" / "copy").read_bytes() == b"a"
    fetching.fetch(catalog, facts["collection"], str(web.site.folder / "one"), paths=["fetched_inputs/x/a"])
    assert (web.site.folder / "one" / "fetched_inputs" / "x" / "a").read_bytes() == b"a"
    submitted = web.site.request("/bin/ls", "/inputs/all", inputs=[{"task": facts["task_id"], "name": "all"}])
    later = web.site.run(submitted)
    assert web.site.contents(later["collection"])["STDOUT.txt"] == b"copy\n"


def test_several_urls_stand_beside_other_inputs(web: Web) -> None:
    web.site.alice.write(f"{HOME}/c", b"c")
    web.server.pages.update({"/a": b"a", "/b%20b": b"b"})
    inputs = [f"{HOME}/c", web.server.url("/a"), web.server.url("/b%20b"), {"url": web.server.url("/a"), "name": "d/a"}]
    facts = web.run("/bin/sh", "-c", "cat /inputs/a '/inputs/b b' /inputs/c /inputs/d/a", inputs=inputs)
    assert web.site.contents(facts["collection"])["STDOUT.txt"] == b"abca"
    same = web.site.request("/bin/true", inputs=[web.server.url("/a"), web.server.url("/a")])
    with pytest.raises(Refused, match="both would be /inputs/a"):
        web.site.submit(same)


def test_credentials_are_the_owners_secret_and_stay_on_their_host(web: Web, authority: tuple[trustme.CA, str]) -> None:
    store(web.site, "TOKEN", b"Bearer a-secret-word\n")
    with HttpsServer(authority[0]) as other:
        other.pages["/a"] = b"a"
        web.server.pages.update(
            {"/here": url_servers.redirect("/there"), "/there": url_servers.redirect(other.url("/a"))}
        )
        web.allow({"name": other.host, "private": True})
        url = {"url": web.server.url("/here"), "secret": "TOKEN", "name": "a"}
        facts = web.run("/bin/sh", "-c", "cat /inputs/a; ls /run/secrets 2>&1 || :", inputs=[url])
        assert facts["state"] == "COMPLETED", facts.get("reason")
        sent = [headers.get("authorization") for _, _, headers in (*web.server.requests.seen, *other.requests.seen)]
    assert sent == ["Bearer a-secret-word", "Bearer a-secret-word", None]
    record = web.site.alice.avus(Entity(EntityKind.COLLECTION, facts["collection"]))
    assert "a-secret-word" not in f"{record}{web.site.contents(facts['collection'])}"
    with pytest.raises(NotFound, match="NOTHING: does not exist"):
        web.site.submit(web.site.request("/bin/true", inputs=[{**url, "secret": "NOTHING"}]))


def test_each_failure_names_url_cause_and_remedy(web: Web) -> None:
    def without_length(handler: Handler) -> None:
        handler.begin(None, b"abc")

    web.server.pages.update({"/a": b"abc", "/cut": url_servers.cut_off, "/no-length": without_length})
    web.server.pages["/cut-chunk"] = lambda handler: handler.begin(None, b"5\r\nab", Transfer_Encoding="chunked")
    web.server.pages["/private"] = lambda handler: handler.answer(403, b"")
    expected = {
        "/cut": "the connection was cut off after 10 of 1000 bytes. Submit the task again",
        "/cut-chunk": "the connection was cut off after ",
        "/no-length": "so the worker could not notice that it was cut off. Give its checksum",
        "/none": "the server answered 404 Not Found. Correct the URL",
        "/private": "the server answered 403 Forbidden. Name a secret",
    }
    for path, words in expected.items():
        reason = web.fails(web.server.url(path))
        assert reason.startswith(f"transfer_failed: {web.server.url(path)}: "), reason
        assert words in reason, reason
    wrong = web.fails({"url": web.server.url("/a"), "sha256": "0" * 64})
    assert f"has the SHA-256 {sha256(b'abc')}, but the request expects {'0' * 64}" in wrong
    right = [{"url": web.server.url(path), "name": path[1:], "sha256": sha256(b"abc")} for path in ("/a", "/no-length")]
    assert web.run("/bin/true", inputs=right)["state"] == "COMPLETED"


def test_a_query_is_in_no_message(web: Web) -> None:
    reason = web.fails({"url": web.server.url("/none?signature=hidden"), "name": "a"})
    assert reason.startswith(f"transfer_failed: {web.server.url('/none')}?...: ")
    assert "hidden" not in reason


def test_cancelling_is_heard_while_a_server_is_silent(web: Web) -> None:
    web.server.pages["/silent"] = url_servers.silent
    submitted = web.site.submit(web.site.request("/bin/true", inputs=[web.server.url("/silent")]))
    with web.site.working():
        wait_until(lambda: web.server.requests.seen, "the request")
        began = time.monotonic()
        cancel.request_cancel(web.site.record(submitted), State.STAGING_IN, web.site.alice.user)
        facts = web.site.ended(submitted)
        assert time.monotonic() - began < 4.0, "two seconds, and as many for a busy machine"
    assert (facts["state"], facts["reason_code"]) == ("CANCELLED", "cancelled")
    assert web.site.leftovers(submitted) == []
    assert set(web.site.contents(submitted.collection)) == {"task.json"}


def test_the_walltime_bounds_fetching(web: Web) -> None:
    web.server.pages["/silent"] = url_servers.silent
    began = time.monotonic()
    reason = web.fails(web.server.url("/silent"), limits={"walltime_seconds": 0.5})
    assert time.monotonic() - began < 4.5
    assert reason.startswith("walltime_exceeded: fetching URLs: took longer than the task's walltime of 0.5 seconds")


def test_a_stopping_worker_leaves_a_transfer_and_its_successor_begins_it_again(web: Web) -> None:
    web.server.pages["/a"] = url_servers.silent
    submitted = web.site.submit(web.site.request("/bin/cat", "/inputs/a", inputs=[web.server.url("/a")]))
    with web.site.working():
        wait_until(lambda: web.server.requests.seen, "the request")
    assert web.site.record(submitted).state() is State.STAGING_IN
    web.server.pages["/a"] = b"whole"
    with web.site.working():
        assert web.site.ended(submitted)["state"] == "COMPLETED"
    assert web.site.contents(submitted.collection)["STDOUT.txt"] == b"whole"
    assert web.site.leftovers(submitted) == []


def test_a_task_that_failed_keeps_nothing_that_was_fetched(web: Web) -> None:
    web.server.pages["/a"] = b"a"
    facts = web.run("/bin/sh", "-c", "cp /inputs/a kept; exit 3", inputs=[web.server.url("/a")])
    assert facts["reason_code"] == "nonzero_exit"
    assert not [name for name in web.site.contents(facts["collection"]) if name.startswith("fetched")]
    assert web.site.contents(facts["collection"])["failed/kept"] == b"a"
    again = rerun.again(web.site.alice, web.site.configuration.attributes, facts["collection"])
    assert again["inputs"] == [{"url": web.server.url("/a"), "name": "a"}]


def test_a_rerun_reads_what_was_fetched_and_with_changed_inputs_fetches_anew(web: Web) -> None:
    web.server.pages["/a"] = b"old"
    facts = web.run("/bin/cat", "/inputs/a", inputs=[web.server.url("/a")])
    web.server.pages["/a"] = b"new"
    arguments = web.site.alice, web.site.configuration.attributes, facts["collection"]
    same = web.site.run(rerun.again(*arguments))
    assert web.site.contents(same["collection"])["STDOUT.txt"] == b"old"
    changed = web.site.run(rerun.again(*arguments, changed_inputs=True))
    assert web.site.contents(changed["collection"])["STDOUT.txt"] == b"new"


def test_a_program_cannot_write_where_fetched_inputs_are(web: Web) -> None:
    facts = web.run("/bin/sh", "-c", "mkdir fetched_inputs; echo 1 > fetched_inputs/a", inputs=[])
    assert facts["reason_code"] == "output_refused"
    assert "fetched_inputs" in facts["reason"]


def test_without_the_libraries_a_sentence_says_what_to_install(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "aiohttp", None)
    reason = web.fails(web.server.url("/a"))
    assert "lacks the package aiohttp" in reason
    assert "pip install 'compute-to-data[urls]'" in reason


# S3


@pytest.fixture
def s3(authority: tuple[trustme.CA, str], web: Web) -> Iterator[S3Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with s3_server(authority[0]) as server:
        bucket = {"name": "measurements", "endpoint": server.endpoint, "private": True}
        web.allow(urls={"buckets": [bucket]})
        yield server


def client(s3: S3Server, ca_file: str) -> Any:
    keys = {"aws_access_key_id": "admin", "aws_secret_access_key": "admin", "region_name": "us-east-1"}
    return s3_session().create_client("s3", endpoint_url=s3.endpoint, verify=ca_file, **keys)


def test_an_object_of_a_bucket_is_an_input(web: Web, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = client(s3, web.ca_file)
    admin.create_bucket(Bucket="measurements")
    content = bytes(range(256)) * 10_000
    admin.put_object(Bucket="measurements", Key="deep/a b?.dat", Body=content)
    admin.close()
    store(web.site, "S3_KEYS", KEYS)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "the-workers-own")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://elsewhere.example.org")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    s3.seen.clear()
    url = {"url": "s3://measurements/deep/a b?.dat", "secret": "S3_KEYS", "sha256": sha256(content)}
    facts = web.run("/bin/sh", "-c", "wc -c < '/inputs/a b?.dat'", inputs=[url])
    assert facts["state"] == "COMPLETED", facts.get("reason")
    assert web.site.contents(facts["collection"])["STDOUT.txt"].strip() == b"2560000"
    (asked,) = s3.seen
    assert "X-Amz-Credential=alice%2F" in asked["QUERY_STRING"]
    assert avus(web.site, EntityKind.COLLECTION, facts["collection"], "url") == {
        ("s3://measurements/deep/a b?.dat", web.site.alice.checksum(f"{facts['collection']}/fetched_inputs/a b?.dat"))
    }
    s3.seen.clear()
    assert "the S3 service answered 403" in web.fails("s3://measurements/deep/a b?.dat"), "without a secret: anonymous"
    assert [one["QUERY_STRING"] for one in s3.seen] == [""]
    assert "the S3 service answered 404 NoSuchKey" in web.fails({"url": "s3://measurements/none", "secret": "S3_KEYS"})
    store(web.site, "BROKEN", b"no keys a-secret-word")
    reason = web.fails({"url": "s3://measurements/none", "secret": "BROKEN"})
    assert "~/.aws/credentials" in reason
    assert "a-secret-word" not in reason
    with pytest.raises(Refused, match="may not use the bucket others"):
        web.site.submit(web.site.request("/bin/true", inputs=["s3://others/a"]))


def test_nothing_is_fetched_unless_the_site_lists_it(site: TrialSite) -> None:
    for url in ("https://data.example.org/a", "s3://bucket/a"):
        with pytest.raises(Refused, match="Ask the administrator to add it to urls"):
            site.submit(site.request("/bin/true", inputs=[url]))


@pytest.mark.docker
@pytest.mark.usefixtures("docker_answers")
def test_a_job_in_a_sandbox_sees_what_was_fetched(tmp_path: Path, authority: tuple[trustme.CA, str]) -> None:
    """As another account than the worker's, and read-only."""
    with HttpsServer(authority[0]) as server:
        server.pages["/a"] = b"some water\n"
        urls = {"hosts": [{"name": server.host, "private": True}], "ca_file": authority[1]}
        site = TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE, urls=urls)
        put = [{"output": "copy", "url": server.url("/copy")}]
        script = "cat /inputs/a > copy; touch /inputs/a 2> /dev/null || echo read-only >> copy"
        facts = site.run(site.request("/bin/sh", "-c", script, inputs=[server.url("/a")], put=put))
        assert facts["state"] == "COMPLETED", facts.get("reason")
        assert server.kept == {"/copy": b"some water\nread-only\n"}


# How much


def in_pieces(handler: Handler) -> None:
    """100 bytes, without saying so beforehand."""
    handler.begin(
        None, b"32\r\n" + b"a" * 50 + b"\r\n32\r\n" + b"a" * 50 + b"\r\n0\r\n\r\n", Transfer_Encoding="chunked"
    )


def test_the_limit_of_a_tasks_inputs_holds_for_what_is_fetched(web: Web) -> None:
    web.server.pages.update({"/a": b"a" * 100, "/b": in_pieces})
    for path in ("/a", "/b"):
        reason = web.fails(web.server.url(path), limits={"input_bytes": 99})
        assert reason.startswith("refused: input ")
        assert "bytes, but the task may bring at most 99. Ask for more in limits.input_bytes" in reason
        fits = web.run("/bin/true", inputs=[web.server.url(path)], limits={"input_bytes": 100})
        assert fits["state"] == "COMPLETED", fits.get("reason")
    both = [web.server.url("/a"), web.server.url("/b")]
    facts = web.run("/bin/true", inputs=both, limits={"input_bytes": 199})
    assert "with what was fetched before it, but the task may bring at most 199" in facts["reason"]
    web.site.alice.write(f"{HOME}/c", b"c" * 100, resource="demoResc")
    facts = web.run("/bin/true", inputs=[web.server.url("/a"), f"{HOME}/c"], limits={"input_bytes": 199})
    assert (
        "have 200 bytes together, with what was fetched from URLs, but the task may bring at most 199"
        in facts["reason"]
    )


def test_the_bound_of_a_user_and_the_reserve_of_the_vault_hold_too(web: Web) -> None:
    web.server.pages.update({"/a": b"a" * 100, "/b": in_pieces})
    web.allow(worker={"per_user": {"staged_bytes": 99}})
    for path in ("/a", "/b"):
        assert "a user may stage 99 at a time" in web.fails(web.server.url(path))
    web.allow(worker={"per_user": {"staged_bytes": 100}})
    assert web.run("/bin/true", inputs=[web.server.url("/b")])["state"] == "COMPLETED"


def test_a_vault_without_room_besides_its_reserve(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.server.pages.update({"/large": lambda handler: handler.begin(1 << 60, b"a"), "/a": b"a"})
    web.allow(limits={"maximum": {"input_bytes": (1 << 53) - 1}, "default": {"input_bytes": (1 << 53) - 1}})
    limit = web.fails(web.server.url("/large"))
    assert "but the task may bring at most" in limit
    web.server.pages["/large"] = lambda handler: handler.begin(1 << 52, b"a")
    reason = web.fails(web.server.url("/large"))
    assert reason.startswith("vault_full: "), reason
    monkeypatch.setattr(fetch_room.VaultRoom, "lack", lambda room: "has no room" if room_is_needed() else "")

    def room_is_needed() -> bool:
        return bool([path for path in web.server.requests.paths if path == "/silent"])

    web.server.pages["/silent"] = url_servers.silent
    reason = web.fails(web.server.url("/silent"))
    assert reason.startswith("vault_full: ")
    assert "while the worker fetches" in reason
