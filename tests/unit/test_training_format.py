"""Files of the 2019 training module: translated, or refused with everything that has to change."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from compute_to_data.documents import request, training_format
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import InputKind, InputReference

INDICES = "allowable_command_indices_for_nonzero_exit_code"
EXAMPLES = Path(__file__).parents[1] / "data" / "training"


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text("utf-8"))
    return document


def translate(document: Any, resource: str, output_collection: str = "") -> dict[str, Any]:
    return training_format.translate(document, GivenBeside(resource, output_collection), {})


def refusal(document: Any, output_collection: str = "") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        translate(document, "dsp_resc", output_collection)
    return caught.value


def with_command(*command: str, **keys: Any) -> dict[str, Any]:
    document = example("accepted")
    document["container"]["commands"] = [{"command": list(command), **keys}]
    return document


def test_a_file_without_root_is_translated() -> None:
    task = request.parse(translate(example("accepted"), "dsp_resc"))
    assert task.resource == "dsp_resc"
    assert task.inputs == (InputReference(InputKind.NEXT_OF, "/tempZone/home/alice/measured"),)
    assert task.output_collection == "/tempZone/home/alice/filtered"
    assert task.process is not None
    assert task.process.image == "example.org/teaching/filter"
    assert task.process.allowed_nonzero == {1}
    assert task.process.environment == example("accepted")["container"]["environment"]


def test_the_words_of_a_command_reach_the_program_unchanged() -> None:
    task = request.parse(translate(example("accepted"), "dsp_resc"))
    assert task.process is not None
    assert request.resolve_arguments(task.process, "/inputs/a", "/outputs/a") == (
        ("sh", "-c", 'sed s/a/b/ "$SOURCE" > ${TARGET:-/outputs/x}'),
        ("false",),
    )


def test_translating_does_not_change_the_document() -> None:
    document = example("accepted")
    before = copy.deepcopy(document)
    translate(document, "dsp_resc")
    assert document == before


def test_an_output_locator_overrides_the_document() -> None:
    document = example("accepted")
    assert translate(document, "r", "/tempZone/other")["output_collection"] == "/tempZone/other"
    del document["external"]["dst_collection"]
    assert translate(document, "r", "/tempZone/other")["output_collection"] == "/tempZone/other"
    assert refusal(document).subject == "/external/dst_collection"


def test_without_a_resource_the_request_needs_a_role() -> None:
    document = translate(example("accepted"), "")
    assert "resource" not in document
    assert request.parse({**document, "role": "CONTAINER"}).role == "CONTAINER"


def test_everything_that_needs_root_is_listed_in_one_message() -> None:
    assert str(refusal(example("as_root"))) == (
        '/container/commands/0/user: found "root" for groupadd, gpasswd, chmod, expected this command deleted; '
        '/container/commands/1/user: found "root", expected this command deleted if it prepares permissions, '
        'else its "user" deleted; '
        '/container/commands/3/user: found "root" for chown, expected this command deleted. '
        "The sandbox runs every command as the service account, never as root, "
        "with inputs readable and /outputs writable already."
    )


def test_following_the_message_makes_the_file_run() -> None:
    document = example("as_root")
    commands = document["container"]["commands"]
    del commands[1]["user"]
    document["container"]["commands"] = [commands[1], commands[2], commands[4]]
    task = request.parse(translate(document, "dsp_resc"))
    assert task.process is not None
    assert [command[0] for command in task.process.commands] == ["sh", "python3", "sh"]
    assert task.process.allowed_nonzero == {2}


@pytest.mark.parametrize("user", ["root", "0", "0:0", "root:root", "root:1000", "0:1000", "00", "+0", " root", 0])
def test_root_is_refused_under_each_of_its_names(user: Any) -> None:
    error = refusal(with_command("true", user=user))
    assert error.subject == "/container/commands/0/user"
    assert "never as root" in error.remedy


@pytest.mark.parametrize("user", ["jovyan", "1000", "1000:0", "rooty", "10", 1000, "", None])
def test_other_users_are_ignored(user: Any) -> None:
    with_user = translate(with_command("true", user=user), "dsp_resc")
    assert with_user == translate(with_command("true"), "dsp_resc")


@pytest.mark.parametrize(
    "helper", ["chmod", "chown", "chgrp", "groupadd", "gpasswd", "usermod", "useradd", "su", "sudo", "/bin/chmod"]
)
def test_helpers_that_need_root_are_refused_for_every_user(helper: str) -> None:
    error = refusal(with_command(helper, "x", user="jovyan"))
    assert error.subject == "/container/commands/0/command/0"
    assert "this command deleted" in error.cause


@pytest.mark.parametrize(
    ("text", "helpers"),
    [
        ("chmod a b", "chmod"),
        ("true && /usr/sbin/useradd x", "useradd"),
        ("true;chown a b|su", "chown, su"),
        ("(chgrp a b)", "chgrp"),
        ("LANG=C exec sudo true", "sudo"),
        ("if true\nthen chmod a b; fi", "chmod"),
        ("x=$(chown a b)", "chown"),
    ],
)
def test_the_message_names_the_helpers_in_roots_shell(text: str, helpers: str) -> None:
    assert f'"root" for {helpers}, expected' in refusal(with_command("/bin/sh", "-c", text, user="root")).cause


def test_the_same_words_as_arguments_are_not_commands() -> None:
    assert translate(with_command("echo", "chmod"), "dsp_resc")
    assert translate(with_command("sh", "-c", "chmod +x /outputs/a", user="jovyan"), "dsp_resc")
    assert "for" not in refusal(with_command("sh", "-c", "echo chmod", user="root")).cause.split("expected")[0]


@pytest.mark.parametrize(
    ("section", "key", "value", "pointer"),
    [
        ("container", "type", "singularity", "/container/type"),
        ("container", "image", "a b", "/container/image"),
        ("container", "commands", [], "/container/commands"),
        ("container", "commands", [{"user": "jovyan"}], "/container/commands/0/command"),
        ("container", "privileged", True, "/container/privileged"),
        ("container", "volumes", {"/": "/host"}, "/container/volumes"),
        ("container", INDICES, [2], f"/container/{INDICES}/0"),
        ("container", "environment", {"A": "%(B)s"}, "/container/environment/A"),
        ("container", "environment", {"TASK_ID": "x"}, "/container/environment/TASK_ID"),
        ("external", "src_collection", "relative", "/external/src_collection"),
        ("external", "dst_collection", "/a/../b", "/external/dst_collection"),
        ("internal", "src_directory", "/etc", "/internal/src_directory"),
        ("internal", "dst_directory", "/inputs", "/internal/dst_directory"),
    ],
)  # fmt: skip
def test_problems_have_the_pointer_in_the_original_file(section: str, key: str, value: Any, pointer: str) -> None:
    document = example("accepted")
    document[section][key] = value
    assert refusal(document).subject == pointer


def test_internal_directories_may_be_missing_or_end_in_a_slash() -> None:
    document = example("accepted")
    expected = translate(document, "dsp_resc")
    document["internal"] = {"src_directory": "/inputs/", "dst_directory": "/outputs/"}
    assert translate(document, "dsp_resc") == expected
    del document["internal"]
    assert translate(document, "dsp_resc") == expected


def test_a_long_hostile_shell_text_does_not_take_long() -> None:
    for text in ("a=b " * 30_000 + "'", " " * 130_000, "exec " * 26_000 + '"', ";" * 131_000, "a=" * 65_000):
        assert refusal(with_command("sh", "-c", text, user="root")).subject == "/container/commands/0/user"
