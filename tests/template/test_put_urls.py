"""Results that the worker puts to URLs: on a real HTTPS server and a real S3 server."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.reading import ENOUGH
from support.site import COMPUTE, HOME, wait_until
from support.url_servers import s3_server, s3_session
from support.web_site import KEYS, Web, avus, store

from compute_to_data.errors import EngineError, InvalidRequest, NotFound, Refused
from compute_to_data.model import DataObject, EntityKind
from compute_to_data.pipeline.vault.outputs import checksum_of
from compute_to_data.records import cancel
from compute_to_data.records.state import State
from compute_to_data.urls import transfer
from compute_to_data.urls.address import parse

WRITES = "mkdir plots; echo 1 > a; echo 2 > plots/b; echo 3 > 'plots/c d?'; : > empty"


def put(web: Web, output: str, path: str, **more: str) -> dict[str, str]:
    return {"output": output, "url": web.server.url(path), **more}


def test_results_are_put_where_the_task_says(web: Web) -> None:
    store(web.site, "TOKEN", b"Bearer a-secret-word")
    wanted = [
        put(web, "a", "/kept/first?key=hidden", secret="TOKEN"),
        put(web, "a", "/kept/"),
        put(web, "plots", "/plots"),
        put(web, "empty", "/e"),
        put(web, "STDOUT.txt", "/log"),
    ]
    facts = web.run("/bin/sh", "-c", f"{WRITES}; echo done", inputs=[], put=wanted)
    assert facts["state"] == "COMPLETED", facts.get("reason")
    assert web.server.kept == {
        "/kept/first?key=hidden": b"1\n",
        "/kept/a": b"1\n",
        "/plots/b": b"2\n",
        "/plots/c%20d%3F": b"3\n",
        "/e": b"",
        "/log": b"done\n",
    }
    headers = web.server.requests.seen[0][2]
    assert (headers["authorization"], headers["content-length"]) == ("Bearer a-secret-word", "2")
    found = web.site.alice.stat(f"{facts['collection']}/a")
    assert isinstance(found, DataObject)
    assert headers["repr-digest"] == f"sha-256=:{found.replicas[0].checksum[len('sha2:') :]}:"
    assert ["authorization" in one[2] for one in web.server.requests.seen[1:]] == [False] * 5
    put_to = avus(web.site, EntityKind.COLLECTION, facts["collection"], "put_to")
    assert (f"{web.server.url('/kept/first')}?...", "a") in put_to
    assert (web.server.url("/plots/c%20d%3F"), "plots/c d?") in put_to
    assert len(put_to) == 6
    assert set(web.site.contents(facts["collection"])) >= {"a", "plots/b", "plots/c d?", "empty"}, (
        "they are results, too"
    )


def test_a_put_that_fails_fails_the_task_and_keeps_its_outputs(web: Web) -> None:
    web.server.pages["/refused"] = lambda handler: (handler.body(), handler.answer(403, b""))[1]
    web.server.pages["/elsewhere"] = lambda handler: (handler.body(), handler.answer(307, b"", Location="/x"))[1]
    web.server.pages["/cut"] = lambda handler: setattr(handler, "close_connection", True)
    expected = {
        "/refused": "the server answered 403 Forbidden. Name a secret",
        "/elsewhere": "the server answered 307 Temporary Redirect",
        "/cut": "the connection was cut off after 2 of 2 bytes",
    }
    for path, words in expected.items():
        facts = web.run("/bin/sh", "-c", WRITES, inputs=[], put=[put(web, "plots", "/first"), put(web, "a", path)])
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "transfer_failed")
        assert facts["reason"].startswith(f"{web.server.url(path)}: ")
        assert words in facts["reason"]
        held = web.site.contents(facts["collection"])
        assert held["failed/a"] == b"1\n"
        assert "a" not in held
        assert len(avus(web.site, EntityKind.COLLECTION, facts["collection"], "put_to")) == 2, "what was put before it"


def test_an_empty_directory_and_a_file_of_ours_that_there_is_not(web: Web) -> None:
    facts = web.run("/bin/mkdir", "nothing", inputs=[], put=[put(web, "nothing", "/n/")])
    assert facts["state"] == "COMPLETED", facts.get("reason")
    facts = web.run("/bin/true", inputs=[], put=[put(web, "LOG.live", "/log")])
    assert facts["reason_code"] == "output_missing"
    assert web.server.requests.seen == []


def test_what_the_program_did_not_write_is_named_before_anything_is_put(web: Web) -> None:
    wanted = [put(web, "a", "/a"), put(web, "plot", "/b")]
    facts = web.run("/bin/sh", "-c", WRITES, inputs=[], put=wanted)
    assert facts["reason_code"] == "output_missing"
    assert "'plot'" in facts["reason"]
    assert web.server.requests.seen == []


def test_cancelling_and_the_walltime_are_heard_while_a_server_is_silent(web: Web) -> None:
    web.server.pages["/silent"] = lambda handler: (handler.body(), handler.owner.released.wait())[1]
    submitted = web.site.submit(web.site.request("/bin/sh", "-c", WRITES, put=[put(web, "a", "/silent")]))
    with web.site.working():
        wait_until(lambda: web.server.requests.seen, "the request")
        began = time.monotonic()
        cancel.request_cancel(web.site.record(submitted), State.STAGING_OUT, web.site.alice.user)
        facts = web.site.ended(submitted)
        assert time.monotonic() - began < 4.0, "two seconds, and as many for a busy machine"
    assert facts["state"] == "CANCELLED"
    assert web.site.contents(submitted.collection)["failed/a"] == b"1\n"
    limits = {"walltime_seconds": 1.5}
    facts = web.run("/bin/sh", "-c", WRITES, inputs=[], put=[put(web, "a", "/silent")], limits=limits)
    assert facts["reason"].startswith("putting results to URLs: took longer than the task's walltime of 1.5 seconds")


def test_a_stopping_worker_leaves_it_to_its_successor(web: Web) -> None:
    web.server.pages["/a"] = lambda handler: (handler.body(), handler.owner.released.wait())[1]
    submitted = web.site.submit(web.site.request("/bin/sh", "-c", WRITES, put=[put(web, "a", "/a")]))
    with web.site.working():
        wait_until(lambda: web.server.requests.seen, "the request")
    assert web.site.record(submitted).state() is State.STAGING_OUT
    del web.server.pages["/a"]
    with web.site.working():
        assert web.site.ended(submitted)["state"] == "COMPLETED"
    assert web.server.kept == {"/a": b"1\n"}


def test_what_is_refused_at_the_submission(web: Web) -> None:
    def submit(*wanted: dict[str, str]) -> None:
        web.site.submit(web.site.request("/bin/true", put=list(wanted)))

    with pytest.raises(Refused, match=r"may not use the host example\.org"):
        submit({"output": "a", "url": "https://example.org/a"})
    with pytest.raises(InvalidRequest, match="/put/0/url") as caught:
        submit({"output": "a", "url": "https://someone:word@example.org/a"})
    assert "word@" not in str(caught.value)
    with pytest.raises(InvalidRequest, match="each URL once"):
        submit(put(web, "a", "/a"), put(web, "b", "/a"))
    with pytest.raises(NotFound, match="NOTHING"):
        submit(put(web, "a", "/a", secret="NOTHING"))


def test_results_are_put_into_a_bucket(web: Web, authority: tuple[trustme.CA, str]) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store(web.site, "S3_KEYS", KEYS)
    with s3_server(authority[0]) as s3:
        web.allow(urls={"buckets": [{"name": "results", "endpoint": s3.endpoint, "private": True}]})
        keys = {"aws_access_key_id": "admin", "aws_secret_access_key": "admin", "region_name": "us-east-1"}
        admin = s3_session().create_client("s3", endpoint_url=s3.endpoint, verify=web.ca_file, **keys)
        admin.create_bucket(Bucket="results")
        s3.seen.clear()
        wanted: list[Any] = [
            {"output": "a", "url": "s3://results/deep/a b", "secret": "S3_KEYS"},
            {"output": "plots", "url": "s3://results/plots/", "secret": "S3_KEYS"},
            {"output": "empty", "url": "s3://results/empty", "secret": "S3_KEYS"},
        ]
        facts = web.run("/bin/sh", "-c", WRITES, inputs=[], put=wanted)
        assert facts["state"] == "COMPLETED", facts.get("reason")
        assert all("X-Amz-Credential=alice%2F" in one["QUERY_STRING"] for one in s3.seen)
        held = {one["Key"] for one in admin.list_objects_v2(Bucket="results")["Contents"]}
        assert held == {"deep/a b", "plots/b", "plots/c d?", "empty"}
        assert admin.get_object(Bucket="results", Key="plots/c d?")["Body"].read() == b"3\n"
        admin.close()
        endpoint = {"endpoint": s3.endpoint, "private": True}
        web.allow(urls={"buckets": [{"name": "missing", **endpoint}]})
        missing = [{"output": "a", "url": "s3://missing/a", "secret": "S3_KEYS"}]
        facts = web.run("/bin/sh", "-c", WRITES, inputs=[], put=missing)
        assert "the S3 service answered 404 NoSuchBucket. Correct the URL" in facts["reason"]
    assert avus(web.site, EntityKind.COLLECTION, facts["collection"], "put_to") == set()


def test_a_file_that_is_not_what_the_catalog_says_is_not_put(web: Web, tmp_path: Path) -> None:
    file, url, urls = tmp_path / "file", parse(web.server.url("/a")), web.site.configuration.urls
    file.write_bytes(b"x" * 1000)
    checksum = checksum_of(b"x" * 1000)
    with pytest.raises(EngineError, match="was changed while it was sent"):
        transfer.put(str(file), 1000, checksum_of(b"y" * 1000), url, urls)
    with pytest.raises(EngineError, match="has another size"):
        transfer.put(str(file), 999, checksum, url, urls)
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(EngineError, match="cannot be read"):
        transfer.put(str(tmp_path / "link"), 1000, checksum, url, urls)
    assert web.server.kept == {}
    transfer.put(str(file), 1000, checksum, url, urls)
    assert web.server.kept == {"/a": b"x" * 1000}


def test_a_kotta_job_with_urls_runs_as_a_task(web: Web) -> None:
    web.server.pages["/deep/water.txt"] = b"some water\n"
    document = {
        "executable": "/bin/sh count.sh",
        "script_name": "count.sh",
        "script": "wc -w < sea.txt > count.txt\n",
        "inputs": [{"src": web.server.url("/deep/water.txt"), "dest": "sea.txt"}],
        "outputs": [{"src": "count.txt", "dest": web.server.url("/kept/count.txt")}],
        "queue": COMPUTE,
        "walltime": "1",
    }
    facts = web.site.run(document, image=web.site.image, output_collection=f"{HOME}/out")
    assert facts["state"] == "COMPLETED", facts.get("reason")
    assert web.server.kept["/kept/count.txt"].strip() == b"2"
    assert web.site.alice.read(f"{facts['collection']}/count.txt", ENOUGH).strip() == b"2"
