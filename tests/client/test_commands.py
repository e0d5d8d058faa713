"""The commands as a person types them: what they print, on which stream, and their exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.people import settings_of
from support.reading import ENOUGH
from support.site import BOB, COMPUTE, HOME, WAITS, TrialSite
from support.typed import Type, Typed

from compute_to_data.cli import interrupts
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.main import main
from compute_to_data.client import finding
from compute_to_data.model import Access, Query
from compute_to_data.ports.zone import Catalog
from compute_to_data.zones.embedded.session import EmbeddedSession

C2D = Type


@pytest.fixture
def c2d(typed: Type) -> C2D:
    """Run a command line as alice."""
    return typed


@pytest.fixture
def working(site: TrialSite) -> Iterator[TrialSite]:
    with site.working():
        yield site


def written(site: TrialSite, script: str, name: str = "task.json", **more: Any) -> str:
    """Write a request to a file; returns its path."""
    path = site.folder / name
    path.write_text(json.dumps(site.request("/bin/sh", "-c", script, **more)))
    return str(path)


class TestSubmittingSeveral:
    def test_one_line_for_each_task_and_a_list_as_json(self, working: TrialSite, c2d: C2D) -> None:
        files = [written(working, f"exit {number}", f"{number}.json") for number in (0, 3)]
        done = c2d("submit", *files)
        lines = [line.split("  ") for line in done.out.splitlines()]
        assert (done.code, [name for _, name in lines]) == (ExitCode.DONE, files)
        waited = c2d("submit", *files, files[0], "--wait", "--output", "json")
        assert [(one["state"], one["exit_status"]) for one in waited.json] == [
            ("COMPLETED", 0),
            ("FAILED", 3),
            ("COMPLETED", 0),
        ]
        assert waited.code == ExitCode.PROGRAM_FAILED
        assert f"task {waited.json[1]['task_id']} FAILED: " in waited.err
        assert "2 of 3 completed, 1 failed" in c2d("submit", *files, files[0], "--wait").err

    def test_all_or_none_and_each_error_names_its_file(self, working: TrialSite, c2d: C2D) -> None:
        good, bad = written(working, "true"), written(working, "true", "bad.json", limits={"cpus": "two"})
        broken, gone = working.folder / "broken.json", working.folder / "gone.json"
        broken.write_text("{")
        missing = written(working, "true", "missing.json", inputs=[f"{HOME}/none"])
        done = c2d("submit", good, bad, str(broken), str(gone), missing)
        assert done.code == ExitCode.REFUSED and done.out == ""
        assert "c2d: 4 of 5 files: cannot be submitted, so none was\n" in done.err
        assert f"\n  {bad}: /limits/cpus: found" in done.err
        for file in (str(broken), str(gone), missing):
            assert f"\n  {file}: " in done.err
        assert c2d("list", "--output", "json").json == []

    def test_after(self, working: TrialSite, c2d: C2D) -> None:
        first = c2d("submit", written(working, WAITS)).out.strip()
        done = c2d("submit", written(working, "true"), "--after", first[:13])
        second = done.out.strip()
        assert f"waits for the success of {first} (" in done.err
        (listed,) = c2d("list", "--state", "WAITING", "--output", "json").json
        assert listed["task_id"] == second
        third = c2d("submit", written(working, "true", after=[second])).out.strip()
        assert c2d("status", third, "--output", "json").json["after"] == [f"{HOME}/out/{second}"]
        assert f"the success of {second} (WAITING)" in c2d("status", third).out
        assert c2d("cancel", second).code == ExitCode.DONE
        assert c2d("wait", third).code == ExitCode.CANCELLED
        assert f"it waited for task {second}, which CANCELLED" in c2d("status", third).out
        assert c2d("cancel", first, "--wait").code == ExitCode.DONE
        refused = c2d("submit", written(working, "true"), "--after", first)
        assert refused.code == ExitCode.REFUSED and f"it would wait for task {first}, which CANCELLED" in refused.err


class TestSubmitting:
    def test_the_id_goes_to_stdout_and_notes_go_to_stderr(self, working: TrialSite, c2d: C2D) -> None:
        done = c2d("submit", written(working, "true"))
        assert done.code == 0
        assert done.out == f"{done.out.strip()}\n"
        assert f"queued on {COMPUTE} (the request names {COMPUTE}); results go to {HOME}/out/" in done.err
        assert c2d("wait", done.out.strip(), "--output", "json").json[0]["state"] == "COMPLETED"

    def test_from_standard_input(self, working: TrialSite, c2d: C2D, monkeypatch: pytest.MonkeyPatch) -> None:
        content = Path(written(working, "true")).read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        done = c2d("submit", "-", "--wait", "--output", "json")
        assert (done.code, done.json["state"]) == (0, "COMPLETED")

    @pytest.mark.parametrize(
        ("script", "limits", "code", "reason"),
        [
            ("exit 3", {}, ExitCode.PROGRAM_FAILED, "nonzero_exit"),
            ("sleep 60", {"walltime_seconds": 0.3}, ExitCode.WALLTIME_EXCEEDED, "walltime_exceeded"),
            ("ln -s /etc/passwd /outputs/x", {}, ExitCode.TASK_FAILED, "output_refused"),
        ],
    )
    def test_the_exit_code_says_how_the_task_ended(
        self, working: TrialSite, c2d: C2D, script: str, limits: Any, code: ExitCode, reason: str
    ) -> None:
        done = c2d("submit", written(working, script, limits=limits), "--wait", "--output", "json")
        assert (done.code, done.json["reason_code"]) == (code, reason), done.err
        assert c2d("wait", done.json["task_id"]).code == code
        assert c2d("logs", done.json["task_id"], "--follow").code == code

    def test_a_refused_task(self, working: TrialSite, c2d: C2D) -> None:
        image = written(working, "true", process={"image": "another"})
        said = c2d("submit", image).err
        assert "is not in this site's list of allowed images (tools). For images of Docker, start it and make" in said
        assert c2d("submit", image).code == ExitCode.REFUSED
        assert c2d("submit", written(working, "true"), "--resource", "nowhere").code == ExitCode.NOT_FOUND
        missing = c2d("submit", written(working, "true", inputs=[f"{HOME}/none"]))
        assert (missing.code, missing.out) == (ExitCode.NOT_FOUND, "")
        assert (
            c2d("submit", "/nonexistent.json").err
            == "c2d: /nonexistent.json: cannot be read: No such file or directory.\n"
        )
        (working.folder / "bad.json").write_text('{"inputs": [')
        assert c2d("submit", str(working.folder / "bad.json")).code == ExitCode.REFUSED
        assert c2d("list", "--output", "json").json == []

    def test_the_2019_modules_and_kottas_formats(self, working: TrialSite, c2d: C2D) -> None:
        working.alice.create_collection(f"{HOME}/in")
        working.alice.write(f"{HOME}/in/a", b"1")
        training = {
            "container": {"type": "docker", "image": "tools", "commands": [{"command": ["true"]}]},
            "external": {"src_collection": f"{HOME}/in", "dst_collection": f"{HOME}/out"},
        }
        kotta = {"jobname": "k", "jobtype": "script", "executable": "/bin/sh", "script_name": "s.sh", "script": "true"}
        for name, document, more in (("t", training, []), ("k", kotta, ["--image", "tools"])):
            path = working.folder / f"{name}.json"
            path.write_text(json.dumps(document))
            done = c2d("submit", str(path), "--resource", COMPUTE, "--wait", *more)
            assert done.code == 0, done.err

    def test_reuse_is_reported(self, working: TrialSite, c2d: C2D) -> None:
        file = written(working, "true")
        first = c2d("submit", file, "--wait", "--output", "json").json["task_id"]
        again = c2d("submit", file, "--reuse")
        assert again.out.strip() == first
        assert "reused: an identical task completed earlier" in again.err

    def test_rerun_submits_a_new_task(self, working: TrialSite, c2d: C2D) -> None:
        first = c2d("submit", written(working, "echo x > /outputs/x"), "--wait", "--output", "json").json
        again = c2d("rerun", first["task_id"][:8], "--wait", "--output", "json").json
        assert again["task_id"] != first["task_id"]
        assert again["commands"] == first["commands"]


class TestLooking:
    def test_status_in_all_forms(self, working: TrialSite, c2d: C2D) -> None:
        working.alice.write(f"{HOME}/a.txt", b"1")
        file = written(working, "exit 0", inputs=[f"{HOME}/a.txt"])
        task = c2d("submit", file, "--wait", "--output", "json").json["task_id"]
        pretty = c2d("status", task).out
        for line in (r"state +COMPLETED", r"exit_status +0", r"stage_out_seconds +\d", rf"input +{HOME}/a.txt  sha2:"):
            assert re.search(f"^{line}", pretty, re.MULTILINE), pretty
        raw = dict(line.split("\t") for line in c2d("status", task, "--output", "raw").out.splitlines())
        assert (raw["state"], raw["resource"]) == ("COMPLETED", COMPUTE)
        document = c2d("status", task, "--output", "json").json
        assert document["seconds"].keys() == {"queued", "stage_in", "processing", "stage_out"}

    def test_status_and_show_of_a_failed_task(self, working: TrialSite, c2d: C2D) -> None:
        working.alice.write(f"{HOME}/a.txt", b"1")
        file = written(working, "exit 4", inputs=[f"{HOME}/a.txt"])
        task = c2d("submit", file, "--wait", "--output", "json").json["task_id"]
        document = c2d("status", task, "--output", "json").json
        assert "exited with status 4" in document["reason"]
        assert document["seconds"].keys() == {"queued", "stage_in", "processing"}
        shown = c2d("show", task, "--output", "json").json
        assert shown["request"]["inputs"] == [{"object": f"{HOME}/a.txt"}]
        assert shown["image"] == "tools"
        shown = c2d("show", task).out
        assert f"{HOME}/a.txt" in shown
        assert re.search(r"^command +/bin/sh -c 'exit 4'$", shown, re.MULTILINE), shown

    def test_list_says_that_there_are_more_tasks(self, site: TrialSite, c2d: C2D) -> None:
        for number in range(3):
            site.submit(site.request("true"), task_id=f"t{number}")
        done = c2d("list", "--limit", "2", "--output", "raw")
        assert [line.split("\t")[0] for line in done.out.splitlines()] == ["t2", "t1"]
        assert "--offset 2" in done.err
        assert [one["task_id"] for one in c2d("list", "--offset", "2", "--output", "json").json] == ["t0"]
        assert c2d("list", "--state", "completed").err == "No such tasks.\n"
        assert c2d("list", "--since", "1h", "--older-than", "2h").out == ""
        assert c2d("list", "--state", "DONE").code == ExitCode.USAGE
        assert c2d("list", "--since", "yesterday").code == ExitCode.USAGE

    def test_show_tells_how_to_repeat_it(self, working: TrialSite, c2d: C2D) -> None:
        file = written(working, "true", process={"environment": {"K": "v"}})
        task = c2d("submit", file, "--wait", "--output", "json").json["task_id"]
        shown = c2d("show", task, "--output", "json").json
        assert shown["repeat"] == f"c2d rerun {task}"
        assert shown["parameters"] == {"K": "v"}
        assert shown["image_digest"].startswith("sha256:")
        assert c2d(*shown["repeat"].split()[1:]).code == 0

    def test_a_missing_or_ambiguous_id(self, site: TrialSite, c2d: C2D) -> None:
        for number in range(2):
            site.submit(site.request("true"), task_id=f"t{number}")
        assert c2d("status", "t").code == ExitCode.REFUSED
        assert "several tasks match: t1, t0" in c2d("status", "t").err
        unknown = c2d("status", "u")
        assert (unknown.code, unknown.err.count("\n")) == (ExitCode.NOT_FOUND, 1)

    def test_resources(self, site: TrialSite, c2d: C2D) -> None:
        document = c2d("resources", "--output", "json").json
        expected = {"resource": COMPUTE, "roles": ["CONTAINER"], "is_up": True, "has_worker": True, "queued": 0}
        known = {"roles_without_image": [], "images": ["tools"], "engine": "process"}
        (resource,) = document["resources"]
        promises = resource.pop("promises")
        assert resource == {**expected, **known}
        assert promises["sandbox"] == "no: it isolates nothing"
        assert promises["secrets"].startswith("yes")
        assert document["images"] == [{"name": "tools"}]
        assert document["limits"]["cpus"] == {"default": 1.0, "maximum": 4.0}
        assert COMPUTE in c2d("resources").out

    def test_list_all_shows_others_readable_tasks(self, working: TrialSite, c2d: C2D, own_files: Path) -> None:
        task = c2d("submit", written(working, "echo hi; echo x > /outputs/x"), "--wait", "--output", "json").json
        bob = own_files.parent / "bob.json"
        bob.write_text(json.dumps(settings_of(working, "bob")))
        as_bob = ("--config-file", str(bob))
        assert c2d("logs", task["task_id"], *as_bob).code == ExitCode.NOT_FOUND
        working.alice.set_access(HOME, BOB, Access.READ_OBJECT, recursive=True)
        assert c2d("logs", task["task_id"], *as_bob).out == "hi\n"
        assert c2d("status", task["task_id"], *as_bob).code == 0
        assert c2d("fetch", task["task_id"], str(own_files.parent), *as_bob).code == 0
        assert c2d("cancel", task["task_id"], *as_bob).code == ExitCode.REFUSED
        assert c2d("list", *as_bob).out == ""
        assert task["task_id"][:8] in c2d("list", "--all", *as_bob).out


class TestCancelling:
    def test_a_running_task(self, working: TrialSite, c2d: C2D) -> None:
        task = c2d("submit", written(working, "sleep 60")).out.strip()
        done = c2d("cancel", task, "--wait", "--output", "json")
        assert (done.code, done.json[0]["state"]) == (0, "CANCELLED")
        assert c2d("wait", task).code == ExitCode.CANCELLED
        assert c2d("cancel", task).code == ExitCode.REFUSED

    def test_cancelling_without_a_live_worker_says_so(self, site: TrialSite, c2d: C2D) -> None:
        submitted = site.submit(site.request("true"))
        engine = {"name": "process", **site.configuration.engine.settings}
        site.configure(engine=engine, worker={"on_demand": False})
        assert "has no live worker" in c2d("cancel", submitted.task_id).err


class TestRunning:
    def test_one_command_from_input_to_result(self, working: TrialSite, c2d: C2D) -> None:
        working.alice.write(f"{HOME}/a.txt", b"1\n2\n")
        script = 'wc -l < /inputs/a.txt; echo "${K}" > /outputs/k; echo bad >&2'
        done = c2d("run", "tools", "-i", "a.txt", "-o", "new/place", "--env", "K=v w", "--", "sh", "-c", script)
        assert (done.code, done.out) == (0, "2\n")
        assert "bad\n" in done.err
        (place,) = (line for line in done.err.splitlines() if line.startswith(f"results in {HOME}/new/place/"))
        assert working.alice.read(f"{place[len('results in ') :]}/k", ENOUGH) == b"v w\n"

    def test_with_json_the_log_goes_to_stderr(self, working: TrialSite, c2d: C2D) -> None:
        done = c2d("--output", "json", "run", "tools", "--", "sh", "-c", "echo word; exit 5")
        assert (done.code, done.json["exit_status"]) == (ExitCode.PROGRAM_FAILED, 5)
        assert "word\n" in done.err

    def test_mistakes_are_reported_before_anything_runs(
        self, working: TrialSite, c2d: C2D, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "write it after --" in c2d("run", "tools").err
        assert c2d("run", "tools", "--memory", "much", "--", "true").code == ExitCode.USAGE
        assert c2d("run", "tools", "--env", "K", "--", "true").code == ExitCode.USAGE
        monkeypatch.chdir(working.folder)
        assert c2d("run", "tools", "--walltime", "soon", "--", "true").code == ExitCode.USAGE
        Path("local.txt").write_text("x")
        done = c2d("run", "tools", "--input", "local.txt", "--input", "missing.txt", "--", "true")
        assert done.code == ExitCode.NOT_FOUND
        assert f"{HOME}/missing.txt: neither the zone nor this computer has it" in done.err
        assert c2d("dataset", "list", "--output", "json").json == []
        assert c2d("list", "--output", "json").json == []

    def test_after_an_interrupt_the_task_continues(
        self, working: TrialSite, c2d: C2D, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from compute_to_data.client import logs

        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(logs, "follow", interrupted)
        done = c2d("run", "tools", "--", "true")
        assert done.code == ExitCode.INTERRUPTED
        (task,) = c2d("list", "--output", "json").json
        assert f"continues. Follow it: c2d logs {task['task_id']} --follow. Cancel it: c2d cancel" in done.err
        assert c2d("wait", task["task_id"]).code == 0

    @pytest.mark.parametrize(("answer", "state"), [("y\n", "CANCELLED"), ("\n", "COMPLETED")])
    def test_after_an_interrupt_a_person_can_cancel(
        self, working: TrialSite, c2d: C2D, monkeypatch: pytest.MonkeyPatch, answer: str, state: str
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        from compute_to_data.client import logs

        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(logs, "follow", interrupted)
        monkeypatch.setattr(interrupts.sys, "stdin", Terminal(answer))
        monkeypatch.setattr(interrupts.sys, "stderr", Terminal())
        assert main(["run", "tools", "--", "sleep", "60" if state == "CANCELLED" else "0"]) == ExitCode.INTERRUPTED
        (task,) = c2d("list", "--output", "json").json
        assert c2d("wait", task["task_id"], "--output", "json").json[0]["state"] == state


class TestFetching:
    @pytest.fixture
    def task(self, working: TrialSite, c2d: C2D) -> dict[str, Any]:
        script = "cd /outputs; mkdir d; echo deep > d/x; echo page > r.html; head -c 100000 /dev/zero > big"
        found: dict[str, Any] = c2d("submit", written(working, script), "--wait", "--output", "json").json
        return found

    def test_a_folder_with_everything(self, task: dict[str, Any], c2d: C2D, tmp_path: Path) -> None:
        done = c2d("fetch", task["task_id"], str(tmp_path / "new" / "got"), "--output", "json")
        assert done.code == 0
        folder = tmp_path / "new" / "got" / task["task_id"]
        assert done.json["directory"] == str(folder)
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        assert names == ["STDERR.txt", "STDOUT.txt", "big", "d/x", "r.html", "ro-crate-metadata.json", "task.json"]
        assert (folder / "d" / "x").read_text() == "deep\n"
        assert (folder / "STDOUT.txt").read_bytes() == (folder / "STDERR.txt").read_bytes() == b""
        again = c2d("fetch", task["task_id"], str(tmp_path / "new" / "got"), "--output", "json").json
        assert (again["fetched"], len(again["kept"])) == ([], 7)

    def test_an_old_file_is_not_taken_for_a_missing_log(self, task: dict[str, Any], c2d: C2D, tmp_path: Path) -> None:
        mine = tmp_path / task["task_id"] / "STDOUT.txt"
        mine.parent.mkdir()
        mine.write_text("mine")
        refused = c2d("fetch", task["task_id"], str(tmp_path))
        assert (refused.code, "other content: STDOUT.txt" in refused.err) == (ExitCode.REFUSED, True)
        assert (mine.read_text(), os.listdir(mine.parent)) == ("mine", ["STDOUT.txt"])
        assert c2d("fetch", task["task_id"], str(tmp_path), "--force").code == 0
        assert mine.read_text() == ""

    def test_an_interrupted_fetch_continues(self, task: dict[str, Any], c2d: C2D, tmp_path: Path) -> None:
        c2d("fetch", task["task_id"], str(tmp_path))
        folder = tmp_path / task["task_id"]
        (folder / "big").unlink()
        (folder / "big.c2d-part").write_bytes(b"half")
        done = c2d("fetch", task["task_id"], str(tmp_path), "--output", "json").json
        assert done["fetched"] == ["big"]
        assert (folder / "big").stat().st_size == 100000
        assert not (folder / "big.c2d-part").exists()

    def test_nothing_is_overwritten_silently(self, task: dict[str, Any], c2d: C2D, tmp_path: Path) -> None:
        mine = tmp_path / task["task_id"] / "d" / "x"
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        done = c2d("fetch", task["task_id"], str(tmp_path))
        assert done.code == ExitCode.REFUSED
        assert "holds files with other content: d/x" in done.err
        assert (mine.read_text(), sorted(os.listdir(mine.parent.parent))) == ("mine", ["d"])
        assert c2d("fetch", task["task_id"], str(tmp_path), "--force").code == 0
        assert mine.read_text() == "deep\n"

    @pytest.mark.parametrize("link", ["", "d"])
    def test_no_link_leads_out_of_the_folder(self, task: dict[str, Any], c2d: C2D, tmp_path: Path, link: str) -> None:
        """A person who can write to the folder and knows the task's id made a link in a result's place."""
        elsewhere, folder = tmp_path / "elsewhere", tmp_path / "shared"
        elsewhere.mkdir()
        (folder / task["task_id"] / link).parent.mkdir(parents=True)
        (folder / task["task_id"] / link).symlink_to(elsewhere)
        for more in ((), ("--force",)):
            done = c2d("fetch", task["task_id"], str(folder), *more)
            assert done.code == ExitCode.REFUSED
            assert "is a link" in done.err
        assert os.listdir(elsewhere) == []

    def test_a_folder_that_cannot_be_written(
        self, task: dict[str, Any], c2d: C2D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "closed").mkdir()
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
        assert "you may not write there" in c2d("fetch", task["task_id"], str(tmp_path / "closed")).err

    def test_an_unusable_target_is_refused(
        self, task: dict[str, Any], c2d: C2D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import shutil

        (tmp_path / "file").write_text("")
        assert "is not a folder" in c2d("fetch", task["task_id"], str(tmp_path / "file")).err
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
        done = c2d("fetch", task["task_id"], str(tmp_path / "full"))
        assert (done.code, "has 1000 bytes free, and the results need" in done.err) == (ExitCode.REFUSED, True)
        assert not (tmp_path / "full").exists()

    def test_a_missing_output_is_named(
        self, working: TrialSite, task: dict[str, Any], c2d: C2D, tmp_path: Path
    ) -> None:
        working.alice.remove(f"{task['collection']}/d/x")
        done = c2d("fetch", task["task_id"], str(tmp_path))
        assert done.code == ExitCode.INCOMPLETE
        assert "not available: d/x" in done.err
        assert (tmp_path / task["task_id"] / "big").exists()

    def test_damaged_bytes_are_not_kept(
        self, working: TrialSite, task: dict[str, Any], c2d: C2D, tmp_path: Path
    ) -> None:
        found = working.alice.stat(f"{task['collection']}/d/x")
        Path(found.replicas[0].physical_path).write_text("DEEP\n")
        done = c2d("fetch", task["task_id"], str(tmp_path))
        assert done.code == ExitCode.INCOMPLETE
        assert "damaged: d/x" in done.err
        assert not (tmp_path / task["task_id"] / "d" / "x").exists()

    def test_a_running_task_cannot_be_fetched(self, site: TrialSite, c2d: C2D, tmp_path: Path) -> None:
        submitted = site.submit(site.request("true"))
        assert c2d("fetch", submitted.task_id, str(tmp_path)).code == ExitCode.REFUSED

    def test_the_log_of_a_failed_task(self, working: TrialSite, c2d: C2D, tmp_path: Path) -> None:
        task = c2d("submit", written(working, "echo why >&2; exit 1"), "--wait", "--output", "json").json["task_id"]
        done = c2d("fetch", task, str(tmp_path))
        assert done.code == 0
        assert "FAILED" in done.err
        assert (tmp_path / task / "STDERR.txt").read_text() == "why\n"
        assert (tmp_path / task / "STDOUT.txt").read_text() == ""

    def test_the_report_is_opened(self, task: dict[str, Any], c2d: C2D, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[str] = []
        monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
        done = c2d("open", task["task_id"], "--output", "json")
        assert done.code == 0
        assert opened == [Path(done.json["file"]).as_uri()]
        assert Path(done.json["file"]).read_text() == "page\n"

    def test_without_a_report(self, working: TrialSite, c2d: C2D) -> None:
        task = c2d("submit", written(working, "true"), "--wait", "--output", "json").json["task_id"]
        assert c2d("open", task).code == ExitCode.NOT_FOUND


class TestSecrets:
    @pytest.fixture
    def piped(self, c2d: C2D, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Typed]:
        def piped(value: bytes, *words: str) -> Typed:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(value)))
            return c2d(*words)

        return piped

    def test_create_list_describe_and_delete(self, site: TrialSite, c2d: C2D, piped: Callable[..., Typed]) -> None:
        value = b"hush\0\xff\n"
        done = piped(value, "secret", "create", "k")
        assert (done.out, "the value ends with a line end" in done.err) == ("k\n", True)
        path = f"{HOME}/.compute_to_data/secrets/k"
        assert site.alice.read(path, ENOUGH) == value
        assert piped(b"2", "secret", "create", "k").code == ExitCode.REFUSED
        done = piped(b"2", "secret", "create", "k", "--force")
        assert (done.code, done.err) == (0, "")
        assert site.alice.read(path, ENOUGH) == b"2"
        for words in (("secret", "list"), ("secret", "describe", "k"), ("secret", "list", "--output", "json")):
            assert "k" in c2d(*words).out
        assert c2d("secret", "describe", "k", "--output", "json").json["readers"] == ["alice#tempZone"]
        assert c2d("secret", "delete", "k").code == 0
        assert c2d("secret", "delete", "k").code == c2d("secret", "describe", "k").code == ExitCode.NOT_FOUND

    def test_the_value_is_asked_for_without_showing_it(
        self, site: TrialSite, c2d: C2D, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import getpass

        answers = ["one", "two", "three", "three"]
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(getpass, "getpass", lambda *_: answers.pop(0))
        assert "the two values differ" in c2d("secret", "create", "k").err
        done = c2d("secret", "create", "k")
        assert (done.code, "three" in done.out + done.err) == (0, False)
        assert site.alice.read(f"{HOME}/.compute_to_data/secrets/k", ENOUGH) == b"three"

    def test_a_secret_does_not_inherit_access_from_home(self, site: TrialSite, piped: Callable[..., Typed]) -> None:
        """bob owns everything in alice's home, and new collections there inherit his access."""
        site.alice.set_access(HOME, BOB, Access.OWN)
        site.alice.set_inheritance(HOME, True)
        done = piped(b"hush", "secret", "create", "k", "--output", "json")
        assert done.json["readers"] == ["alice#tempZone"]
        assert_hidden(site.bob, f"{HOME}/.compute_to_data/secrets/k")
        assert_hidden(site.bob, f"{HOME}/.compute_to_data")

    @pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "x" * 65, "a b", "a-b", "1a"])
    def test_an_invalid_name_is_refused(self, c2d: C2D, name: str) -> None:
        assert c2d("secret", "create", name).code == ExitCode.REFUSED

    def test_a_program_reads_it_and_nothing_else_shows_it(
        self, working: TrialSite, c2d: C2D, piped: Callable[..., Typed]
    ) -> None:
        piped(b"hush", "secret", "create", "KEY")
        done = c2d("run", "tools", "--secret", "KEY", "--", "sh", "-c", "wc -c < /run/secrets/KEY")
        assert (done.code, done.out.strip()) == (0, "4")
        (task,) = c2d("list", "--output", "json").json
        for words in (("status",), ("show",), ("logs",), ("status", "--output", "json"), ("show", "--output", "json")):
            said = c2d(words[0], task["task_id"], *words[1:])
            assert "hush" not in said.out + said.err
        assert c2d("run", "tools", "--secret", "NONE", "--", "true").code == ExitCode.NOT_FOUND

    def test_empty_and_too_large_values_are_refused(self, piped: Callable[..., Typed]) -> None:
        for value in (b"", b"x" * 65537):
            assert piped(value, "secret", "create", "k").code == ExitCode.REFUSED


def assert_hidden(catalog: Catalog, path: str) -> None:
    assert catalog.access(path) is Access.NULL


class TestPrivateZone:
    def test_create_a_zone_and_work_in_it(self, c2d: C2D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = tmp_path / "fresh" / "config.json"
        monkeypatch.setenv("C2D_CONFIG_FILE", str(config))
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
        made = c2d("zone", "create", str(tmp_path / "own"), "--user", "carol", "--output", "json")
        assert (made.code, made.json["engine"]) == (0, "process")
        assert "UNSANDBOXED" in made.err
        assert oct(config.stat().st_mode)[-3:] == "600"
        done = c2d("run", "host", "--", "sh", "-c", "echo hello")
        assert (done.code, done.out) == (0, "hello\n"), done.err
        assert c2d("zone", "create", str(tmp_path / "other")).code == ExitCode.REFUSED
        assert not (tmp_path / "other").exists()
        assert c2d("zone", "create", str(tmp_path / "own"), "--force").code == ExitCode.REFUSED
        assert json.loads(config.read_text())["zone"]["user"] == "carol"

    def test_a_failed_creation_leaves_nothing(self, c2d: C2D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("C2D_CONFIG_FILE", str(tmp_path / "fresh.json"))
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
        (tmp_path / "file").touch()
        refused = c2d("zone", "create", str(tmp_path / "file"))
        assert (refused.code, "the zone cannot be written there" in refused.err) == (ExitCode.REFUSED, True)
        assert c2d("zone", "create", str(tmp_path / "own"), "--user", "a/b").code == ExitCode.REFUSED
        assert c2d("zone", "create", str(tmp_path / "own"), "--user", "carol").code == 0


@pytest.mark.docker
@pytest.mark.usefixtures("docker_answers")
def test_a_day_with_containers_through_the_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the installed command, a private zone, real sandboxes and a worker on demand."""
    for name, value in (("C2D_CONFIG_FILE", tmp_path / "config.json"), ("C2D_SESSION_FILE", tmp_path / "session.json")):
        monkeypatch.setenv(name, str(value))
    image = "compute-to-data/base:bookworm"

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "compute_to_data.cli.main", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert typed("zone", "create", str(tmp_path / "zone"), "--user", "dora").returncode == 0
    done = typed(
        "run", image, "--", "sh", "-c", "id -u; touch /etc/x 2>/dev/null || echo sealed; echo 1 > /outputs/one"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "sealed"
    (listed,) = json.loads(typed("list", "--output", "json").stdout)
    assert listed["state"] == "COMPLETED"
    fetched = typed("fetch", listed["task_id"][:8], str(tmp_path))
    assert (Path(fetched.stdout.strip()) / "one").read_text() == "1\n"
    endless = typed("submit", written_for(tmp_path, image)).stdout.strip()
    follower = subprocess.Popen(
        [sys.executable, "-m", "compute_to_data.cli.main", "logs", endless, "--follow"],
        stdout=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.append(follower.stdout.readline() if follower.stdout else ""))
    reader.start()
    reader.join(60)
    assert lines == ["alive\n"]
    assert typed("cancel", endless, "--wait").returncode == 0
    assert follower.wait(60) == ExitCode.CANCELLED
    if follower.stdout:
        follower.stdout.close()


def written_for(folder: Path, image: str) -> str:
    process = {"image": image, "exec": "sh", "argv": ["-c", "echo alive; sleep 120"]}
    path = folder / "endless.json"
    path.write_text(json.dumps({"role": "CONTAINER", "inputs": [], "process": process}))
    return str(path)


@pytest.mark.parametrize(("form", "asked"), [("raw", {"state", "name", "role"}), ("json", {"runs", "completed_at"})])
def test_a_long_listing_asks_only_for_what_it_shows(
    working: TrialSite, c2d: C2D, monkeypatch: pytest.MonkeyPatch, form: str, asked: set[str]
) -> None:
    task = c2d("submit", written(working, "true"), "--wait", "--output", "json").json["task_id"]
    attributes: list[str] = []
    query = EmbeddedSession.query

    def noted(session: EmbeddedSession, wanted: Query) -> Any:
        attributes.append(wanted.attribute.rpartition("::")[2])
        return query(session, wanted)

    monkeypatch.setattr(EmbeddedSession, "query", noted)
    monkeypatch.setattr(finding, "_FEW", 0)
    assert task in c2d("list", "--output", form).out
    assert set(attributes) == asked if form == "raw" else set(attributes) > asked
