"""The table of request formats: each row is complete, and its translator is imported only when needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compute_to_data.documents import formats, request
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.errors import InvalidRequest


@pytest.mark.parametrize("one", formats.FORMATS, ids=lambda one: str(one.name))
def test_each_format_can_be_recognised_and_refuses_an_unusable_document(one: formats.Format) -> None:
    assert one.distinctive, "no document could be known to be in it"
    word = min(one.distinctive)
    assert formats.format_of({word: None}) is one
    with pytest.raises(InvalidRequest):
        request.parse(formats.in_our_own({word: None}, GivenBeside("r", "/z/out"), {}))


def test_no_two_formats_have_a_name_in_common() -> None:
    for part in ("name", "called", "translator", "role_remedy"):
        assert len({getattr(one, part) for one in formats.FORMATS}) == len(formats.FORMATS)


def test_a_format_that_cannot_name_a_resource_says_so() -> None:
    with pytest.raises(InvalidRequest, match="name it beside the request"):
        formats.in_our_own({"container": {}}, GivenBeside(), {})


def test_only_the_translator_of_the_documents_format_is_loaded() -> None:
    program = (
        "import sys; from compute_to_data.documents import formats; "
        "from compute_to_data.documents.given_beside import GivenBeside; "
        "formats.in_our_own({'inputs': []}, GivenBeside(), {}); "
        "print(*(one for one in sys.modules if one.startswith('compute_to_data.documents.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert "own_format" in loaded
    assert not loaded & {"training_format", "kotta_format"}
