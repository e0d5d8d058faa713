"""The same adapters with the engine that isolates nothing: the helper runs with the worker's own Python."""

from __future__ import annotations

import socket
from typing import Any

from support.site import HOME, TrialSite


def ran(site: TrialSite, **process: Any) -> dict[str, bytes]:
    site.alice.write(f"{HOME}/a.txt", b"axbxc\n")
    facts = site.run(site.request(process.pop("exec"), inputs=[f"{HOME}/a.txt"], process=process))
    found = site.contents(facts["collection"])
    assert facts["state"] == "COMPLETED", (facts, found.get("STDERR.txt"))
    return found


def test_pipes(site: TrialSite) -> None:
    found = ran(
        site,
        exec="/bin/sh",
        argv=["-c", 'tr -d x < "$1" > "$2"', "sh", "${input_file}", "${output_file}"],
        input_adapter={"input_type": "file", "input_params": {"file_type": "pipe", "file_path": "${input_file}"}},
        output_adapter={"output_type": "file", "output_params": {"file_type": "pipe", "file_path": "${output_file}"}},
    )
    assert found["a.txt"] == b"abc\n"


def test_a_port(site: TrialSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = f"""
import socket
c = socket.create_server(("127.0.0.1", {port})).accept()[0]
found = b""
while data := c.recv(99): found += data
c.sendall(found.upper())
"""
    found = ran(
        site,
        exec="python3",
        argv=["-c", program],
        input_adapter={"input_type": "tcp", "input_parameters": {"tcp_port": port}},
        output_adapter={"output_type": "tcp", "output_parameters": {"tcp_port": port, "file_name": "answer"}},
    )
    assert found["answer"] == b"AXBXC\n"
