"""The process registry's own addresses and documents, as its documentation has them, asked with curl."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway
from support.site import BOB, HOME, TrialSite, wait_until

from compute_to_data.model import Access

AT = "/api/process_definition/"
SMALL = {"definition": {"exec": "/path/to/executable"}}
TR: dict[str, Any] = {
    "exec": "/usr/bin/tr",
    "argv": ["-d", "x"],
    "input_adapter": {
        "input_type": "file",
        "input_parameters": {"file_type": "stream", "stream_name": "STDIN"},
    },
    "output_adapter": {
        "output_type": "file",
        "output_parameters": {"file_type": "stream", "stream_name": "STDOUT"},
    },
}
FFMPEG = {
    "exec": "/usr/local/bin/ffmpeg",
    "argv": ["-i", "${input_file}", "-q:a", "2", "${output_file}"],
    "input_adapter": {"input_type": "file", "input_parameters": {"file_path": "${input_file}"}},
    "output_adapter": {"output_type": "file", "output_parameters": {"file_path": "${output_file}"}},
}


def curl(gateway: RunningGateway, *words: str, user: str = "alice") -> tuple[str, str]:
    """The head and the body of the answer."""
    command = ["curl", "--silent", "--include", "--noproxy", "*", "-u", f"{user}:{PASSWORDS[user]}", *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    head, _, body = answer.partition("\n\n")
    return (head, body) if body else (answer.partition("\r\n\r\n")[0], answer.partition("\r\n\r\n")[2])


def test_the_lines_of_its_documentation(gateway: RunningGateway) -> None:
    place = gateway.url + AT
    head, body = curl(gateway, place)
    assert " 200 " in head.splitlines()[0]
    empty = {"limit": 20, "next": None, "offset": 0, "previous": None, "total_count": 0}
    assert json.loads(body) == {"meta": empty, "objects": []}
    posted = ["-H", "Content-Type: application/json", "-X", "POST", "--data", json.dumps(SMALL)]
    head, body = curl(gateway, *posted, place)
    lines = head.splitlines()
    assert " 201 " in lines[0]
    (location,) = [line.partition(": ")[2] for line in lines if line.lower().startswith("location:")]
    number = json.loads(body)["id"]
    assert location == f"{AT}{number}/"
    curl(gateway, *posted, place)
    listed = json.loads(curl(gateway, place)[1])
    assert listed["meta"]["total_count"] == 2
    first = {name: listed["objects"][0][name] for name in ("definition", "id", "resource_uri")}
    assert first == {"definition": SMALL["definition"], "id": number, "resource_uri": location}
    changed = json.dumps({**first, "definition": {"exec": "/another/executable"}})
    head, _ = curl(
        gateway, "-H", "Content-Type: application/json", "-X", "PUT", "--data", changed, gateway.url + location
    )
    assert " 200 " in head.splitlines()[0]
    found = json.loads(curl(gateway, gateway.url + location)[1])
    assert (found["definition"], found["id"]) == ({"exec": "/another/executable"}, number)
    head, body = curl(gateway, "-X", "DELETE", gateway.url + location)
    assert (" 204 " in head.splitlines()[0], body) == (True, "")
    assert " 404 " in curl(gateway, gateway.url + location)[0].splitlines()[0]
    assert " 401 " in curl(gateway, "-u", "alice:wrong", place)[0].splitlines()[0]


@pytest.mark.parametrize("spelling", ["parameters", "params"])
def test_its_whole_format_is_stored_as_it_came(alice: httpx.Client, spelling: str) -> None:
    whole = {
        "exec": "/path/to/executable",
        "application": "referencetodtindtrs",
        "process_type": "single",
        "timeout": 60,
        "cwd": "/path/to/cwd",
        "environment": {"ENVAR": "val"},
        "argv": ["arg1", "arg2"],
        "input_adapter": {"input_type": "tcp", f"input_{spelling}": {"chunk_size": "10KB", "tcp_port": 8090}},
        "output_adapter": {
            "output_type": "file",
            f"output_{spelling}": {"file_type": "stream", "stream_name": "STDOUT"},
        },
    }
    for definition in (whole, TR, FFMPEG, {**whole, "process_type": "service"}):
        answer = alice.post(AT, json={"definition": definition})
        assert answer.status_code == 201, answer.text
        assert alice.get(answer.headers["location"]).json()["definition"] == definition


def test_tr_runs_as_a_task(alice: httpx.Client, site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a.txt", b"axbxc\n")
    made = alice.post(AT, json={"definition": {**TR, "application": site.image}, "name": "tr"}).json()
    assert made["name"] == "tr"
    asked = {"role": "CONTAINER", "inputs": [f"{HOME}/a.txt"], "output_collection": f"{HOME}/out", "process": "tr"}
    with site.working():
        task = alice.post("/api/v1/tasks", json=asked).json()
        at = f"/api/v1/tasks/{task['task_id']}"
        wait_until(lambda: alice.get(at).json()["state"] in ("COMPLETED", "FAILED"), "the end of the task")
    assert alice.get(f"{at}/results/a.txt").content == b"abc\n"


def test_a_definition_without_an_image_runs_in_the_image_of_the_request(alice: httpx.Client, site: TrialSite) -> None:
    alice.post(AT, json={"definition": TR, "name": "tr"})
    site.alice.write(f"{HOME}/a.txt", b"axbxc\n")
    asked = {"role": "CONTAINER", "inputs": [f"{HOME}/a.txt"], "output_collection": f"{HOME}/out", "process": "tr"}
    answer = alice.post("/api/v1/tasks", json=asked)
    assert (answer.status_code, answer.json()["subject"]) == (400, "/process/image")
    answer = alice.post("/api/v1/tasks", json=asked, params={"image": site.image})
    assert answer.status_code == 201, answer.text


def test_pages(alice: httpx.Client) -> None:
    ids = [alice.post(AT, json=SMALL).json()["id"] for _ in range(5)]
    seen: list[int] = []
    address: str | None = f"{AT}?limit=2"
    while address:
        page = alice.get(address).json()
        assert (page["meta"]["limit"], page["meta"]["total_count"]) == (2, 5)
        seen += [one["id"] for one in page["objects"]]
        address = page["meta"]["next"]
    assert seen == ids
    last = alice.get(AT, params={"limit": 2, "offset": 4}).json()["meta"]
    assert alice.get(last["previous"]).json()["objects"][0]["id"] == ids[2]
    assert alice.get(AT, params={"limit": 0}).json()["meta"]["limit"] == 1000
    assert alice.get(AT, params={"offset": 99}).json()["objects"] == []


def test_one_sees_ones_own_and_what_is_shared(alice: httpx.Client, bob: httpx.Client, site: TrialSite) -> None:
    made = alice.post(AT, json={**SMALL, "name": "mine"}).json()
    at = made["resource_uri"]
    assert alice.get(AT).json()["meta"]["total_count"] == 1
    assert bob.get(AT).json()["objects"] == []
    for method in ("GET", "PUT", "DELETE"):
        answer = bob.request(method, at, json=SMALL if method == "PUT" else None)
        assert answer.status_code == 404, (method, answer.text)
        assert "executable" not in answer.text
    assert bob.get(at).json()["title"] == bob.get(f"{AT}999999999/").json()["title"]
    for path in (HOME, f"{HOME}/processes", f"{HOME}/processes/mine.json"):
        site.alice.set_access(path, BOB, Access.READ_OBJECT)
    assert [one["id"] for one in bob.get(AT).json()["objects"]] == [made["id"]]
    assert bob.get(at).json()["definition"] == SMALL["definition"]
    for method in ("PUT", "DELETE"):
        assert bob.request(method, at, json=SMALL if method == "PUT" else None).status_code == 403, method
    assert alice.get(at).status_code == 200


def test_ids_that_are_none(alice: httpx.Client, site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a.txt", b"x")
    other = site.alice.object_id(f"{HOME}/a.txt")
    for name in (str(other), "0", "-1", "9" * 19, "9" * 400, "mine", "a%2Fb", "%2FtempZone%2Fhome%2Falice%2Fa.txt",
                 "%F1%88", "1.0", "٣", "%00"):  # fmt: skip
        for method in ("GET", "PUT", "DELETE"):
            answer = alice.request(method, f"{AT}{name}/", json=SMALL if method == "PUT" else None)
            assert answer.status_code in (400, 404), (method, name, answer.text)
    assert site.alice.read(f"{HOME}/a.txt", 9) == b"x"


BAD = (
    (b"", "is empty"),
    (b"{", "is not JSON"),
    (b"[]", "has no definition"),
    (b'{"definition": []}', "has no definition"),
    (b'{"exec": "/bin/x"}', "has no definition"),
    (b'{"definition": {}}', "exec"),
    (b'{"definition": {"exec": 3}}', "/exec"),
    (b'{"definition": {"exec": "x", "argvs": []}}', "argv"),
    (b'{"definition": {"exec": "x", "argv": ["${other}"]}}', "${other}"),
    (b'{"definition": {"exec": "x", "timeout": NaN}}', "NaN"),
    (b'{"definition": {"exec": "x\xff"}}', "not UTF-8"),
    (b'{"definition": {"exec": "x"}, "nonsense": 1}', "/nonsense"),
    (b'{"definition": {"exec": "x"}, "name": "a/b"}', "a/b"),
    (b'{"definition": {"exec": "x"}, "name": "../../x"}', "../../x"),
    (b'{"definition": {"exec": "x"}, "name": 7}', "/name"),
    (b'{"definition": ' + b'{"x":' * 5000, "levels deep"),
    (b'{"definition": {"exec": "' + b"a" * 300_000 + b'"}}', "262144"),
)


def test_bad_definitions_are_told_what_is_wrong(alice: httpx.Client) -> None:
    at = alice.post(AT, json={**SMALL, "name": "good"}).json()["resource_uri"]
    for body, said in BAD:
        for method, address in (("POST", AT), ("PUT", at)):
            if method == "PUT" and b'"name"' in body:
                continue  # below
            answer = alice.request(method, address, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, (method, body[:60], answer.text)
            is_name = method == "PUT" and b'"name"' in body
            assert said in answer.json()["detail"] or is_name, (method, body[:60], answer.text)
    kind = {"Content-Type": "application/json"}
    assert alice.post(AT, content=b" " * (2 << 20), headers=kind).status_code == 413
    assert (
        alice.post(AT, content=b"exec=x", headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code
        == 415
    )
    assert alice.post(AT, json={**SMALL, "name": "good"}).status_code == 409
    for moved in ({"id": 1}, {"resource_uri": "/api/process_definition/1/"}, {"name": "other"}):
        assert alice.put(at, json={**SMALL, **moved}).status_code == 400
    assert [one["definition"] for one in alice.get(AT).json()["objects"]] == [SMALL["definition"]]
    for name, value in (("limit", "-1"), ("limit", "1001"), ("offset", "-1"), ("limit", "x"), ("limits", "5")):
        assert alice.get(AT, params={name: value}).status_code == 400, (name, value)


def test_nobody_gets_anything(anybody: httpx.Client) -> None:
    for method, address in (("GET", AT), ("POST", AT), ("GET", f"{AT}1/"), ("PUT", f"{AT}1/"), ("DELETE", f"{AT}1/")):
        answer = anybody.request(method, address, json=SMALL if method in ("POST", "PUT") else None)
        assert answer.status_code == 401, (method, answer.text)
