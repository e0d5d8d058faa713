"""What Slurm's commands are asked, and what each of their answers means."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.real_docker import LIMITS

from compute_to_data.configuration import EngineSettings
from compute_to_data.engines import open_engine
from compute_to_data.engines.slurm import commands, settings, written_job
from compute_to_data.engines.slurm.states import GONE, STATES, Phase, meaning
from compute_to_data.errors import ConfigurationError, EngineError, EngineOutOfReach, ReasonCode
from compute_to_data.job import Image, Job, JobKey, Mount, OutputMount, Sandbox
from compute_to_data.model import User

NASTY = "$(touch /tmp/x) `id` ; rm -rf / \\ \" ' %j"


def a_job(**more: Any) -> Job:
    given = {"owner": User("alice", "tempZone"), "limits": LIMITS, **more}
    image = Image("a:b", f"sha256:{'0' * 64}", frozenset({"sha256:1"}), "WORKDIR /x")
    return Job(JobKey("t-1.0a"), scope="z", image=image, command=("true",), outputs="/o", log_file="/l", **given)


def read(**more: Any) -> settings.SlurmSettings:
    return settings.read({"directory": "/shared/c2d", "python": "/shared/bin/python3", **more})


class TestSubmission:
    def test_limits_and_owner_become_options(self) -> None:
        words = commands.submission(read(partition="main", qos="low"), a_job(), "/shared/c2d/jobs/t-1.0a", "0f")
        assert words[0] == "sbatch"
        assert {
            "--job-name=compute-to-data-t-1.0a",
            "--comment=task t-1 of alice#tempZone",
            "--time=3",  # 60 s, the grace and a minute for its start
            "--mem=256M",
            "--cpus-per-task=1",
            "--partition=main",
            "--qos=low",
            "--no-requeue",
            "--output=/shared/c2d/jobs/t-1.0a/node.log",
        } <= set(words)
        program = ["/shared/bin/python3", "-I", "-m", "compute_to_data.engines.slurm.node", "run"]
        assert words[-7:] == [*program, "/shared/c2d/jobs/t-1.0a", "0f"]

    def test_a_users_account_is_the_sites_choice(self) -> None:
        mapped = read(account="all", accounts={"alice#tempZone": "physics"}, wckeys={"alice#tempZone": "k"})
        assert {"--account=physics", "--wckey=k"} <= set(commands.submission(mapped, a_job(), "/f", "0"))
        others = commands.submission(mapped, a_job(owner=User("bob", "tempZone")), "/f", "0")
        assert "--account=all" in others
        assert not any(word.startswith("--wckey") for word in others)

    def test_no_shell_reads_what_users_write(self) -> None:
        """The owner's name arrives as it is in the arguments of a program that Slurm's command stands for."""
        words = commands.submission(read(), a_job(owner=User(NASTY, "tempZone")), "/f", "0")
        (comment,) = [word for word in words if word.startswith("--comment=")]
        assert comment == f"--comment=task t-1 of {NASTY}#tempZone"
        said = commands.run(["/bin/echo", "-n", comment], 10.0)
        assert said == comment

    def test_the_script_passes_its_arguments_on(self) -> None:
        words = [str(commands._START), "/nonexistent", NASTY, "printf", "%s|", NASTY, "a b", ""]
        assert subprocess.run(["sh", *words], capture_output=True, text=True, check=True).stdout == f"{NASTY}|a b||"

    def test_the_script_starts_the_client_of_a_service(self, tmp_path: Path) -> None:
        """But not where there is only a file, or no client."""
        address, client = tmp_path / "socket", tmp_path / "client.py"
        words = ["sh", str(commands._START), str(address), str(client), "/bin/echo", NASTY]

        def said() -> str:
            return subprocess.run(words, capture_output=True, text=True, check=True).stdout

        address.touch()
        client.touch()
        assert said() == f"{NASTY}\n"
        address.unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            assert said() == f"-I -S {client} {address} /bin/echo {NASTY}\n"
            client.unlink()
            assert said() == f"{NASTY}\n"

    def test_the_workers_environment_does_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SBATCH_PARTITION", "other")
        monkeypatch.setenv("SLURM_CONF", "/somewhere")
        said = commands.run(["/usr/bin/env"], 10.0)
        assert "SBATCH" not in said
        assert "SLURM_CONF=/somewhere" in said


class TestAnswers:
    def test_the_queue(self) -> None:
        said = "12|RUNNING|compute-to-data-t.0\n13|PENDING|odd|name\n"
        assert commands.states(said) == {"12": ("RUNNING", "compute-to-data-t.0"), "13": ("PENDING", "odd|name")}
        assert commands.states("") == {}

    @pytest.mark.parametrize("said", ["<html>", "12 RUNNING x", "|RUNNING|x", "12|RUNNING"])
    def test_nonsense_is_no_answer(self, said: str) -> None:
        with pytest.raises(EngineOutOfReach, match="nonsense"):
            commands.states(said)

    def test_the_accounting(self) -> None:
        said = "12|CANCELLED by 1000\n13|TIMEOUT\n"
        assert commands.ended_states(said) == {"12": "CANCELLED by 1000", "13": "TIMEOUT"}

    @pytest.mark.parametrize(
        ("said", "kind", "cause"),
        [
            ("slurm_load_jobs error: Unable to contact slurm controller (connect fail", EngineOutOfReach, "does not"),
            ("sbatch: error: Batch job submission failed: Socket timed out on send/recv", EngineOutOfReach, "does not"),
            ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted", EngineOutOfReach, "does not"),
            ("squeue: fatal: Could not establish a configuration source", EngineOutOfReach, "does not"),
            ("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: ... Job violates accounting/QOS policy",
             EngineOutOfReach, "no more jobs"),
            ("sbatch: fatal: Unable to process configuration file", EngineOutOfReach, "does not"),
            ("sbatch: error: invalid partition specified: x", EngineOutOfReach, "no such partition"),
            ("sbatch: error: ... submission failed: Required partition not available (inactive or drain)",
             EngineOutOfReach, "takes no jobs"),
            ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
             EngineError, "account"),
            ("sbatch: error: Batch job submission failed: Requested node configuration is not available", EngineError,
             "no node"),
            ("sbatch: error: Memory specification can not be satisfied", EngineError, "no node"),
            ("sbatch: error: something new", EngineError, "something new"),
            ("", EngineError, "wrote nothing"),
        ],
    )  # fmt: skip
    def test_what_a_command_says_against_it(self, said: str, kind: type[EngineError], cause: str) -> None:
        error = commands.explained("task t", "sbatch", said)
        assert type(error) is kind
        assert cause in str(error)

    def test_a_host_without_slurm(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(EngineError, match="no command squeue"):
            commands.run(commands.queue_of("root"), 10.0)

    def test_a_command_that_hangs(self) -> None:
        with pytest.raises(EngineOutOfReach, match=r"did not end in 0\.1 s"):
            commands.run(["sleep", "60"], 0.1)


class TestStates:
    def test_each_state_has_one_meaning(self) -> None:
        assert {state for state, one in STATES.items() if one.phase is Phase.WAITS} >= {"PENDING", "CONFIGURING"}
        assert {state for state, one in STATES.items() if one.phase is Phase.RUNS} >= {"RUNNING", "COMPLETING"}
        assert meaning("NODE_FAIL").phase is meaning("BOOT_FAIL").phase is GONE.phase is Phase.LOST
        assert meaning("OUT_OF_MEMORY").out_of_memory

    @pytest.mark.parametrize(
        ("state", "reason"),
        [
            ("CANCELLED by 1000", ReasonCode.CANCELLED),
            ("CANCELLED+", ReasonCode.CANCELLED),
            ("TIMEOUT", ReasonCode.WALLTIME_EXCEEDED),
            ("DEADLINE", ReasonCode.WALLTIME_EXCEEDED),
        ],
    )
    def test_what_ended_a_job(self, state: str, reason: ReasonCode) -> None:
        ended_by = meaning(state).ended_by
        assert ended_by is not None and ended_by.reason is reason

    def test_a_state_of_a_later_version_is_that_of_a_running_job(self) -> None:
        assert meaning("EXPEDITING").phase is Phase.RUNS


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, "directory"),
        ({"directory": "shared"}, "directory"),
        ({"directory": "/a b"}, "directory"),
        ({"directory": "/a/%j"}, "directory"),
        ({"python": "python3"}, "python"),
        ({"partition": "a;b"}, "partition"),
        ({"partition": "-x"}, "partition"),
        ({"account": "a b"}, "account"),
        ({"accounts": {"alice#z": 3}}, "accounts/alice#z"),
        ({"extra": ["x"]}, "extra"),
        ({"extra": [1]}, "extra"),
        ({"poll_seconds": 0}, "poll_seconds"),
        ({"poll_seconds": "1"}, "poll_seconds"),
        ({"sandbox": {"name": "process"}}, "sandbox/name"),
        ({"sandbox": {"no": 1}}, "sandbox/no"),
        ({"sandbox": {"name": "podman", "uid": 5}}, "sandbox/uid"),
        ({"sandbox": {"name": "podman", "job_uids": {"first": 100000, "count": 10}}}, "sandbox/job_uids"),
        ({"service": "socket"}, "service"),
        ({"nodes": 3}, "nodes"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, Any], place: str) -> None:
    whole = {"directory": "/shared", **given} if given else given
    with pytest.raises(ConfigurationError, match=f"/engine/settings/{place}"):
        open_engine(EngineSettings("slurm", whole), "/nonexistent")


def test_a_job_arrives_on_its_node_as_it_is() -> None:
    job = a_job(
        inputs=(Mount("/vault/a", "/inputs/a b"),),
        input_folders=("/inputs/e",),
        output_mounts=(OutputMount("kept", "/results"),),
        environment={"A": NASTY},
        sandbox=Sandbox("w", 3, "/d", "/i"),
        helper=("tcp", "/inputs/a b", "", "9000", "1024", "", "", "", "0", "0"),
        secrets={"TOKEN": b"\0x"},
    )
    document = written_job.document(job)
    assert "TOKEN" not in str(document)
    arrived = written_job.job(document, {"TOKEN": b"\0x"})
    assert arrived.sandbox == Sandbox("w", 0, "/d", "/i"), "no warm sandbox"
    assert written_job.document(arrived)["sandbox"]["inputs"] == "/i"
    assert {**vars(arrived), "sandbox": job.sandbox} == vars(job)


def test_the_program_on_a_node_loads_little() -> None:
    """It starts for each job, and what it loads is most of its cost."""
    program = "import sys, compute_to_data.engines.slurm.node; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    dear = {"compute_to_data.configuration", "compute_to_data.site_file", "compute_to_data.task", "argparse", "irods"}
    assert loaded & dear == set()
