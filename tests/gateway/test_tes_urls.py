"""TES tasks whose inputs and outputs are URLs: the worker moves them from and to a real HTTPS and a real S3 server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trustme
from support.gateways import RunningGateway, gateway_settings, give_passwords, running
from support.site import wait_until
from support.url_servers import s3_server, s3_session
from support.web_site import KEYS, Web, store

TASKS = "/ga4gh/tes/v1/tasks"
LAST = ("COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED")


@pytest.fixture
def gateway(web: Web) -> Iterator[RunningGateway]:
    """With the settings of a site that lists the server."""
    give_passwords(web.site)
    with running(gateway_settings(web.site)) as started:
        yield started


def task(web: Web, script: str, url: str, to: str, **parameters: str) -> dict[str, Any]:
    """Reads one URL and writes another."""
    return {
        "inputs": [{"url": url, "path": "/inputs/in"}],
        "outputs": [{"url": to, "path": "/outputs/out"}],
        "executors": [{"image": web.site.image, "command": ["/bin/sh", "-c", script]}],
        "resources": {"backend_parameters": parameters, "backend_parameters_strict": True},
    }


def ended(client: httpx.Client, web: Web, document: dict[str, Any]) -> dict[str, Any]:
    """The whole task once it has ended."""
    answer = client.post(TASKS, json=document)
    assert answer.status_code == 200, answer.text
    place = f"{TASKS}/{answer.json()['id']}"
    with web.site.working():
        wait_until(lambda: client.get(place).json()["state"] in LAST, "the end of the task")
    found: dict[str, Any] = client.get(place, params={"view": "FULL"}).json()
    return found


def test_https(alice: httpx.Client, web: Web) -> None:
    store(web.site, "TOKEN", b"Bearer a-secret-word")
    web.server.pages["/sea.txt"] = b"some water\n"
    document = task(
        web, "tr a-z A-Z < /inputs/in > /outputs/out", web.server.url("/sea.txt"), web.server.url("/kept/out"),
        **{f"Secret:{web.server.host}": "TOKEN"},
    )  # fmt: skip
    found = ended(alice, web, document)
    assert found["state"] == "COMPLETE", found
    assert web.server.kept == {"/kept/out": b"SOME WATER\n"}
    assert {headers["authorization"] for _, _, headers in web.server.requests.seen} == {"Bearer a-secret-word"}
    (output,) = found["logs"][0]["outputs"]
    assert output == {"url": web.server.url("/kept/out"), "path": "/outputs/out", "size_bytes": "11"}
    assert "a-secret-word" not in str(found)


def test_s3(alice: httpx.Client, web: Web, authority: tuple[trustme.CA, str]) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store(web.site, "S3_KEYS", KEYS)
    with s3_server(authority[0]) as s3:
        endpoint = {"endpoint": s3.endpoint, "private": True}
        web.allow(urls={"buckets": [{"name": "source", **endpoint}, {"name": "target", **endpoint}]})
        keys = {"aws_access_key_id": "admin", "aws_secret_access_key": "admin", "region_name": "us-east-1"}
        admin = s3_session().create_client("s3", endpoint_url=s3.endpoint, verify=web.ca_file, **keys)
        admin.create_bucket(Bucket="source")
        admin.create_bucket(Bucket="target")
        admin.put_object(Bucket="source", Key="deep/in", Body=b"one\n")
        s3.seen.clear()
        secrets = {"secret:source": "S3_KEYS", "secret:target": "S3_KEYS"}
        document = task(
            web, "cat /inputs/in /inputs/in > /outputs/out", "s3://source/deep/in", "s3://target/out", **secrets
        )
        with running(gateway_settings(web.site)) as gateway, gateway.client("alice") as client:
            found = ended(client, web, document)
        assert found["state"] == "COMPLETE", found
        assert s3.seen and all("X-Amz-Credential=alice%2F" in one["QUERY_STRING"] for one in s3.seen)
        assert admin.get_object(Bucket="target", Key="out")["Body"].read() == b"one\none\n"
        admin.close()


def test_a_transfer_that_fails_is_no_fault_of_the_program(alice: httpx.Client, web: Web) -> None:
    document = task(web, "cp /inputs/in /outputs/out", web.server.url("/missing"), web.server.url("/kept"))
    found = ended(alice, web, document)
    assert found["state"] == "SYSTEM_ERROR"
    assert any("404" in one for one in found["logs"][0]["system_logs"]), found["logs"]
    assert web.server.kept == {}


@pytest.mark.parametrize(
    ("url", "parameters", "said"),
    [
        ("https://169.254.169.254/latest", {}, "169.254.169.254"),
        ("https://example.org/a", {}, "example.org"),
        ("s3://other/a", {}, "other"),
        ("https://alice:word@localhost/a", {}, "user name or password"),
        ("file:///etc/passwd", {}, "nothing else is read or written"),
        (None, {"secret:example.org": "TOKEN"}, "a secret for no URL"),
        (None, {"secret:": "TOKEN"}, "a secret for no URL"),
        (None, {"secret:HOST": "NOTHING"}, "NOTHING"),
        (None, {"secret:HOST": "../a"}, "secret"),
        (None, {"secret:HOST": ""}, "one of your secrets"),
        (None, {"secrets": "TOKEN"}, "secret:HOST"),
    ],
)
def test_what_is_refused(alice: httpx.Client, web: Web, url: str | None, parameters: dict[str, str], said: str) -> None:
    named = {name.replace("HOST", web.server.host): value for name, value in parameters.items()}
    document = task(web, "true", url or web.server.url("/in"), web.server.url("/out"), **named)
    answer = alice.post(TASKS, json=document)
    assert answer.status_code in (400, 404, 422), answer.text
    assert said in answer.json()["detail"]
    assert "word@" not in answer.text
    assert web.server.requests.seen == []
