"""Datasets, workloads, resources and secrets over HTTP."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from support.site import ALICE, HOME, TrialSite

from compute_to_data.client import datasets
from compute_to_data.client.site_access import ConfiguredSite
from compute_to_data.client.workbench import Workbench


@pytest.fixture
def bench(site: TrialSite) -> Workbench:
    return Workbench(site.zone.session(ALICE), ConfiguredSite(site.configuration))


def test_datasets(alice: httpx.Client, bob: httpx.Client, bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "data" / "a b").mkdir(parents=True)
    (tmp_path / "data" / "a b" / "ü.csv").write_text("1,2\n")
    dataset = datasets.upload(bench, str(tmp_path / "data"), name="measured").dataset
    at = f"/api/v1/datasets/{dataset}"
    assert [(one["dataset"], one["name"]) for one in alice.get("/api/v1/datasets").json()] == [(dataset, "measured")]
    assert alice.get(at).json()["input"].endswith(f"{dataset}/files")
    assert [one["name"] for one in alice.get(f"{at}/files").json()] == ["a b/", "a b/ü.csv"]
    assert alice.get(f"{at}/files/a b/ü.csv").content == b"1,2\n"
    for path in ("", "/files", "/files/a b/ü.csv"):
        assert bob.get(at + path).status_code == 404
    assert bob.delete(at).status_code == 404
    assert bob.get("/api/v1/datasets").json() == []
    assert alice.get(f"{at}/files/..%2fmanifest.json").status_code == 404
    assert alice.delete(at).status_code == 204
    assert alice.get(at).status_code == 404
    assert alice.get("/api/v1/datasets/nonsense").status_code == 400


def test_secrets_are_never_read_back(alice: httpx.Client, bob: httpx.Client, site: TrialSite) -> None:
    at = "/api/v1/secrets/TOKEN"
    assert alice.put(at, content=b"hidden value").status_code == 201
    assert alice.put(at, content=b"other").status_code == 409
    assert alice.put(at, content=b"hidden value 2", params={"force": True}).status_code == 201
    for answer in (alice.get("/api/v1/secrets"), alice.get(at), alice.put(at, content=b"x")):
        assert "hidden" not in answer.text
    assert alice.get(at).json()["readers"] == ["alice#tempZone"]
    assert site.alice.read(f"{HOME}/.compute_to_data/secrets/TOKEN", 100) == b"hidden value 2"
    assert bob.get(at).status_code == 404
    assert alice.put("/api/v1/secrets/LARGE", content=b"x" * 65537).status_code == 413
    assert alice.put("/api/v1/secrets/EMPTY", content=b"").status_code == 400
    assert alice.put("/api/v1/secrets/..%2fx", content=b"x").status_code in (400, 404)
    assert alice.put("/api/v1/secrets/9x", content=b"x").status_code == 400
    assert alice.delete(at).status_code == 204
    assert alice.delete(at).status_code == 404


def test_resources(alice: httpx.Client) -> None:
    found = alice.get("/api/v1/resources").json()
    assert [one["resource"] for one in found["resources"]] == ["dsp_resc"]
    assert found["images"] == [{"name": "tools"}]
    assert found["limits"]["walltime_seconds"]["maximum"] > 0
    line = alice.get("/api/v1/resources/dsp_resc/queue").json()
    assert (line["resource"], line["waiting"]) == ("dsp_resc", 0)
    assert alice.get("/api/v1/resources/nonsense/queue").status_code == 404


def test_workloads(alice: httpx.Client, bob: httpx.Client, site: TrialSite) -> None:
    answer = alice.post("/api/v1/workloads", json={"image": site.image, "name": "many", "instances": 2})
    assert answer.status_code == 201, answer.text
    at = answer.headers["location"]
    started = answer.json()
    assert (started["state"], started["request"]["instances"]) == ("STARTED", 2)
    task = alice.post(f"{at}/tasks", json={"command": ["sleep", "600"], "stdin": "words", "environment": {"A": "b"}})
    assert task.status_code == 201, task.text
    assert [one["name"] for one in alice.get(f"{at}/tasks").json()] == ["sleep 600"]
    assert [one["workload"] for one in alice.get("/api/v1/workloads").json()] == [started["workload"]]
    for document, said in (
        ({}, "image"), ({"image": 1}, "image"), ({"image": site.image, "x": 1}, "/x"), ([], "object"),
        ({"image": site.image, "instances": 0}, "instances"), ({"image": "other"}, "other"),
    ):  # fmt: skip
        refused = alice.post("/api/v1/workloads", json=document)
        assert refused.status_code in (400, 422), refused.text
        assert said in refused.json()["detail"]
    assert alice.post(f"{at}/tasks", json={"command": "echo"}).status_code == 400
    assert bob.get(at).status_code == 404
    assert bob.post(f"{at}/stop").status_code == 404
    stopped = alice.post(f"{at}/stop").json()
    assert stopped["cancelled"] == [task.json()["task_id"]]
    assert alice.post(f"{at}/tasks", json={"command": ["true"]}).status_code == 422
