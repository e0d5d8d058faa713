"""The two examples of the process registry, through the gateway and as tasks: tr between the standard streams, and
ffmpeg by names of files."""

from __future__ import annotations

import io
import math
import struct
import wave
from pathlib import Path
from typing import Any

import container_image
import pytest
from support.gateways import gateway_settings, give_passwords, running
from support.reading import ENOUGH
from support.site import BASE_IMAGE, HOME, TrialSite, wait_until

from compute_to_data.records.state import State

FFMPEG = "compute-to-data/ffmpeg:bookworm"
CONTAINER = Path(__file__).parents[1] / "support" / "ffmpeg"

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_answers")]


@pytest.fixture(scope="module")
def image(docker_answers: None) -> str:
    """Debian's ffmpeg, built unless Docker already holds it."""
    container_image.build(CONTAINER, FFMPEG, print)
    return FFMPEG


def run(site: TrialSite, definition: dict[str, Any], source: str) -> dict[str, bytes]:
    """What a task leaves that runs a definition from the registry. All is said over HTTP."""
    give_passwords(site)
    request = {"role": "CONTAINER", "inputs": [source], "output_collection": f"{HOME}/out", "process": "example"}
    with site.working(), running(gateway_settings(site)) as gateway, gateway.client("alice") as client:
        made = client.post("/api/process_definition/", json={"definition": definition, "name": "example"})
        assert made.status_code == 201, made.text
        task = client.post("/api/v1/tasks", json=request)
        assert task.status_code == 201, task.text
        at = task.headers["location"]
        wait_until(lambda: State(client.get(at).json()["state"]).is_final, "the end of the task")
        status = client.get(at).json()
    found = site.contents(status["collection"])
    assert status["state"] == "COMPLETED", (status, found.get("STDERR.txt"))
    return found


def test_tr(tmp_path: Path) -> None:
    site = TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE)
    site.alice.write(f"{HOME}/a.txt", b"axbxc\n")
    definition = {
        "exec": "/usr/bin/tr",
        "application": BASE_IMAGE,
        "process_type": "single",
        "timeout": 60,
        "argv": ["-d", "x"],
        "input_adapter": {"input_type": "file", "input_params": {"file_type": "stream", "stream_name": "STDIN"}},
        "output_adapter": {"output_type": "file", "output_params": {"file_type": "stream", "stream_name": "STDOUT"}},
    }
    assert run(site, definition, f"{HOME}/a.txt")["a.txt"] == b"abc\n"


@pytest.mark.long  # its image takes 800 MB of packages
def test_ffmpeg(image: str, tmp_path: Path) -> None:
    """The site's table says which image the application is."""
    site = TrialSite(tmp_path, {"name": "docker"}, image, applications={"ffmpeg": image})
    site.alice.write(f"{HOME}/tone.wav", tone(seconds=1))
    definition = {
        "exec": "ffmpeg",
        "application": "ffmpeg",
        "process_type": "single",
        "timeout": 120,
        "argv": ["-i", "${input_file}", "-q:a", "2", "${output_file}"],
        "input_adapter": {"input_type": "file", "input_parameters": {"file_path": "${input_file}"}},
        "output_adapter": {
            "output_type": "file",
            "output_parameters": {"file_path": "${output_file}", "file_name": "tone.mp3"},
        },
    }
    sound = run(site, definition, f"{HOME}/tone.wav")["tone.mp3"]
    assert sound[:3] == b"ID3" and b"Lavc" in sound
    assert 2_000 < len(sound) < 60_000
    assert site.alice.read(f"{HOME}/tone.wav", ENOUGH) == tone(seconds=1)


def tone(seconds: int) -> bytes:
    """A sine of 440 Hz, as a WAV file."""
    rate = 44_100
    samples = (round(20_000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(rate * seconds))
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", one) for one in samples))
    return written.getvalue()
