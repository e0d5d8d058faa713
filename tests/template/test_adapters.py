"""Programs that get their input, and give their output, by a TCP port, a named pipe or an appended file, in real
sandboxes; and programs that misuse these."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.reading import ENOUGH
from support.site import BASE_IMAGE, HOME, TrialSite

from compute_to_data.engines.docker.host_copies import LOADER, libraries

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_answers")]

BARE = "compute-to-data-tests/bare:1"
INPUT = f"{HOME}/a.txt"
SERVER = """
import socket, sys, time
def serve(port):
    server = socket.create_server(("127.0.0.1", port))
    return server.accept()[0]
def whole(connection):
    found = b""
    while data := connection.recv(65536):
        found += data
    return found
"""


@pytest.fixture(scope="module")
def bare(docker_answers: None) -> Iterator[str]:
    """An image with ``dd``, its loader and its library, and nothing else: no shell, no Python."""
    packed = io.BytesIO()
    parts = libraries(["/bin/dd"], "dd")
    loader = subprocess.run(["ldd", "/bin/dd"], capture_output=True, text=True, check=True).stdout.split()
    where = next(word for word in loader if word.startswith("/") and "ld-" in word)
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(Path("/bin/dd").resolve(), "bin/dd")
        archive.add(Path(where).resolve(), where.lstrip("/"))
        for name, path in parts.items():
            if name != LOADER:
                archive.add(Path(path).resolve(), f"lib/{name}")
    subprocess.run(["docker", "import", "-", BARE], input=packed.getvalue(), check=True, capture_output=True)
    yield BARE
    subprocess.run(["docker", "rmi", BARE], check=False, capture_output=True)


@pytest.fixture(scope="module")
def site(bare: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialSite]:
    """One site, whose worker runs for all tests: each has a task of its own."""
    found = TrialSite(tmp_path_factory.mktemp("site"), {"name": "docker"}, BASE_IMAGE)
    found.configuration = found.configure(engine={"name": "docker"}, images=[BASE_IMAGE, BARE])
    found.alice.write(INPUT, b"axbxc\n")
    with found.working():
        yield found


def port(number: int, **more: Any) -> dict[str, Any]:
    return {"tcp_port": number, **more}


def file(kind: str, path: str, **more: Any) -> dict[str, Any]:
    return {"file_type": kind, "file_path": path, **more}


def process(given: Any = None, left: Any = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"image": BASE_IMAGE, **more}
    for side, parameters in (("input", given), ("output", left)):
        if parameters is not None:
            kind = "tcp" if "tcp_port" in parameters else "file"
            found[f"{side}_adapter"] = {f"{side}_type": kind, f"{side}_parameters": parameters}
    return found


def python(program: str) -> dict[str, Any]:
    return {"exec": "python3", "argv": ["-c", (SERVER + program).replace("${", "$${")]}


def run(site: TrialSite, definition: dict[str, Any], source: str = INPUT, **more: Any) -> tuple[dict[str, str], Any]:
    """The facts of a task with this process, and what is in its collection."""
    inputs = [source] if "input_adapter" in definition else []
    request = {"role": "CONTAINER", "inputs": inputs, "output_collection": f"{HOME}/out", "process": definition, **more}
    facts = site.ended(site.submit(request))
    return facts, site.contents(facts["collection"])


def completed(site: TrialSite, definition: dict[str, Any], source: str = INPUT) -> Any:
    facts, left = run(site, definition, source)
    assert facts["state"] == "COMPLETED", (facts, left.get("STDERR.txt"))
    return left


def failed(site: TrialSite, definition: dict[str, Any], source: str = INPUT, **more: Any) -> dict[str, str]:
    facts, _ = run(site, definition, source, **more)
    assert facts["state"] == "FAILED", facts
    return facts


# A port


def test_a_server_answers_and_goes_on(site: TrialSite) -> None:
    """It gets 3 MB in chunks, answers when it has all, and would serve for ever."""
    content = bytes(range(256)) * 12_000
    site.alice.write(f"{HOME}/large.bin", content)
    program = "c = serve(9000)\nc.sendall(whole(c)[::-1])\nc.close()\nwhile True: time.sleep(60)"
    left = completed(site, process(port(9000, chunk_size="10KB"), port(9000), **python(program)), f"{HOME}/large.bin")
    assert left["large.bin"] == content[::-1]


def test_a_server_that_answers_while_it_reads(site: TrialSite) -> None:
    """Neither side waits for the other: the answer is as long as the input, which no buffer holds."""
    content = b"0123456789abcdef" * 400_000
    site.alice.write(f"{HOME}/long.bin", content)
    program = "c = serve(9000)\nwhile data := c.recv(4096): c.sendall(data)\nc.close()"
    left = completed(site, process(port(9000), port(9000, file_name="copy"), **python(program)), f"{HOME}/long.bin")
    assert left["copy"] == content


def test_a_server_that_begins_to_listen_late_on_two_ports(site: TrialSite) -> None:
    program = (
        "time.sleep(0.5)\na = socket.create_server(('127.0.0.1', 9000))\nb = socket.create_server(('', 9001))\n"
        "found = whole(a.accept()[0])\nb.accept()[0].sendall(found.upper())"
    )
    assert completed(site, process(port(9000), port(9001), **python(program)))["a.txt"] == b"AXBXC\n"


def test_an_answer_that_nothing_collects_is_in_the_log(site: TrialSite) -> None:
    program = "c = serve(9000)\nc.sendall(whole(c).upper())\nc.close()\nopen('/outputs/x', 'w').write('done')"
    left = completed(site, process(port(9000), **python(program)))
    assert (left["x"], left["STDOUT.txt"]) == (b"done", b"AXBXC\n")


def test_the_servers_own_failure_is_the_tasks(site: TrialSite) -> None:
    program = "c = serve(9000)\nc.sendall(whole(c))\nc.close()\nsys.exit(7)"
    facts = failed(site, process(port(9000), port(9000), **python(program)))
    assert (facts["reason_code"], facts["exit_status"]) == ("nonzero_exit", "7")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("", "the program ended before it listened on port 9000"),
        ("sys.exit(0)", "the program ended before it listened on port 9000"),
        ("c = serve(9000)\nc.recv(1)\nc.close()\ntime.sleep(0.2)", "broke its connection on port 9000 off"),
    ],
)
def test_a_server_that_takes_no_input_fails(site: TrialSite, program: str, said: str) -> None:
    site.alice.write(f"{HOME}/big.bin", b"x" * (8 << 20), force=True)
    facts = failed(site, process(port(9000), port(9000), **python(program)), f"{HOME}/big.bin")
    assert said in facts["reason"], facts


@pytest.mark.parametrize(
    "program",
    [
        "time.sleep(600)",
        "c = serve(9000)\ntime.sleep(600)",
        "c = serve(9000)\nwhole(c)\ntime.sleep(600)",
        "s = socket.create_server(('127.0.0.1', 9000), backlog=0)\ntime.sleep(600)",
    ],
    ids=["never listens", "never reads", "never answers", "never accepts"],
)
def test_the_walltime_ends_a_server_that_waits(site: TrialSite, program: str) -> None:
    site.alice.write(f"{HOME}/big.bin", b"x" * (8 << 20), force=True)
    definition = process(port(9000), port(9000), timeout=3, **python(program))
    assert failed(site, definition, f"{HOME}/big.bin")["reason_code"] == "walltime_exceeded"


def test_a_server_that_answers_for_ever_meets_the_limit_of_outputs(site: TrialSite) -> None:
    program = "c = serve(9000)\nwhile True: c.sendall(b'x' * 65536)"
    definition = process(port(9000), port(9000), **python(program))
    facts = failed(site, definition, limits={"output_bytes": 1 << 20, "walltime_seconds": 60})
    assert facts["reason_code"] == "output_limit", facts


def test_an_answer_without_end_to_the_log_is_bounded_too(site: TrialSite) -> None:
    program = "c = serve(9000)\nwhile True: c.sendall(b'x' * 65536)"
    facts = failed(site, process(port(9000), timeout=3, **python(program)))
    assert facts["reason_code"] == "walltime_exceeded"


# A named pipe


@pytest.mark.parametrize("place", ["", "/tmp/given"])
def test_a_program_reads_a_pipe(site: TrialSite, place: str) -> None:
    argv = ["-d", "x"]
    definition = process(
        file("pipe", place or "${input_file}"),
        file("pipe", "/tmp/left"),
        exec="sh",
        argv=["-c", f'test -p "$1" && tr {" ".join(argv)} < "$1" > /tmp/left', "sh", place or "${input_file}"],
    )
    assert completed(site, definition)["a.txt"] == b"abc\n"


def test_a_pipe_may_be_opened_several_times(site: TrialSite) -> None:
    script = 'for n in 1 2 3; do echo $n > "$1"; done; seq 100000 > "$1"'
    definition = process(None, file("pipe", "${output_file}"), exec="sh", argv=["-c", script, "sh", "${output_file}"])
    expected = "".join(f"{n}\n" for n in (1, 2, 3, *range(1, 100_001))).encode()
    assert completed(site, definition)["output"] == expected


def test_a_program_may_read_less_than_all(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/many.txt", b"line\n" * 1_000_000)
    definition = process(
        file("pipe", "${input_file}"), {"file_type": "stream", "stream_name": "STDOUT"}, exec="head",
        argv=["-n", "1", "${input_file}"],
    )  # fmt: skip
    assert completed(site, definition, f"{HOME}/many.txt")["many.txt"] == b"line\n"


@pytest.mark.parametrize(
    ("given", "left", "said"),
    [
        (file("pipe", "/tmp/in"), None, "without opening its input, the pipe /tmp/in"),
        (None, file("pipe", "/tmp/out"), "without opening its output, the pipe /tmp/out"),
    ],
)
def test_a_pipe_that_stays_closed_fails(site: TrialSite, given: Any, left: Any, said: str) -> None:
    assert said in failed(site, process(given, left, exec="true"))["reason"]


def test_a_program_that_never_reads_its_pipe_ends_at_the_walltime(site: TrialSite) -> None:
    facts = failed(site, process(file("pipe", "/tmp/in"), None, exec="sleep", argv=["600"], timeout=2))
    assert facts["reason_code"] == "walltime_exceeded"


def test_a_flood_through_a_pipe_meets_the_limit_of_outputs(site: TrialSite) -> None:
    definition = process(None, file("pipe", "/tmp/out"), exec="sh", argv=["-c", "yes > /tmp/out"])
    facts = failed(site, definition, limits={"output_bytes": 1 << 20, "walltime_seconds": 60})
    assert facts["reason_code"] == "output_limit", facts


# A file that is appended to


def test_input_is_appended_while_the_program_runs(site: TrialSite) -> None:
    """``tail -f`` sees it come; the program ends by itself."""
    follow = 'tail -n +1 -f "$1" | head -n 3 | tr a-z A-Z >> "$2"'
    site.alice.write(f"{HOME}/three.txt", b"a\nb\nc\n")
    definition = process(
        file("append", "/tmp/messages"),
        file("append", "${output_file}"),
        exec="sh",
        argv=["-c", follow, "sh", "/tmp/messages", "${output_file}"],
    )
    assert completed(site, definition, f"{HOME}/three.txt")["three.txt"] == b"A\nB\nC\n"


def test_a_program_appends_to_a_fixed_place(site: TrialSite) -> None:
    script = "for n in 1 2 3; do echo $n >> /tmp/answers; done"
    definition = process(None, file("append", "/tmp/answers", file_name="all"), exec="sh", argv=["-c", script])
    assert completed(site, definition)["all"] == b"1\n2\n3\n"


def test_a_program_that_appends_for_ever_meets_the_limit_of_outputs(site: TrialSite) -> None:
    definition = process(None, file("append", "/tmp/answers"), exec="sh", argv=["-c", "yes >> /tmp/answers"])
    facts = failed(site, definition, limits={"output_bytes": 1 << 20, "walltime_seconds": 60})
    assert facts["reason_code"] == "output_limit", facts


def test_an_input_for_which_tmp_has_no_room_fails(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/huge.bin", bytes(300 << 20))
    definition = process(file("append", "/tmp/messages"), None, exec="sleep", argv=["60"])
    assert (
        "cannot be appended to /tmp/messages: No space left" in failed(site, definition, f"{HOME}/huge.bin")["reason"]
    )


# The sandbox


def test_a_missing_program_and_its_status(site: TrialSite) -> None:
    assert failed(site, process(port(9000), exec="no-such-program"))["exit_status"] == "127"
    killed = process(file("pipe", "/tmp/in"), None, exec="sh", argv=["-c", "read x < /tmp/in; kill -9 $$"])
    assert failed(site, killed)["exit_status"] == "137"


def test_a_program_gains_nothing_from_its_helper(site: TrialSite) -> None:
    """It has the program's own account and no capability; its folder is read-only; killing it fails the task."""
    script = (
        "cat < /tmp/in > /outputs/copy; grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/$PPID/status > /outputs/helper;"
        "grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/self/status > /outputs/own;"
        "touch /.compute-to-data-helper/x 2> /outputs/refused; ls /sys/class/net > /outputs/net; true"
    )
    left = completed(site, process(file("pipe", "/tmp/in"), None, exec="sh", argv=["-c", script]))
    assert left["copy"] == b"axbxc\n"
    assert left["helper"] == left["own"]
    assert b"Read-only file system" in left["refused"]
    assert left["net"] == b"lo\n"
    kills = process(file("pipe", "/tmp/in"), None, exec="sh", argv=["-c", "cat < /tmp/in; kill -9 $PPID; sleep 60"])
    assert failed(site, kills)["reason_code"] == "nonzero_exit"


def test_the_environment_of_the_program_does_not_stop_the_helper(site: TrialSite) -> None:
    environment = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/tmp", "LD_LIBRARY_PATH": "/nowhere", "LANG": "xx"}
    script = 'cat < /tmp/in; echo "$PYTHONHOME"'
    definition = process(file("pipe", "/tmp/in"), None, exec="sh", argv=["-c", script], environment=environment)
    assert completed(site, definition)["STDOUT.txt"] == b"axbxc\n/nowhere\n"


def test_the_image_needs_neither_a_shell_nor_python(site: TrialSite, bare: str) -> None:
    definition = process(
        file("pipe", "${input_file}"),
        file("pipe", "${output_file}"),
        exec="/bin/dd",
        argv=["if=${input_file}", "of=${output_file}", "conv=notrunc"],
    )
    definition["image"] = bare
    assert completed(site, definition)["a.txt"] == site.alice.read(INPUT, ENOUGH)
