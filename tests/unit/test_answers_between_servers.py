"""What a server answers about another server of its zone that it cannot reach."""

from __future__ import annotations

import pytest

from compute_to_data.errors import BETWEEN_SERVERS, Code, OutOfReach, ZoneOutOfReach
from compute_to_data.zones.irods.failures import about, translated
from compute_to_data.zones.irods.wire import ServerError


@pytest.mark.parametrize("code", sorted(BETWEEN_SERVERS), ids=lambda code: code.name)
@pytest.mark.parametrize("errno", [0, 110])
def test_it_is_out_of_reach(code: Code, errno: int) -> None:
    """So a task waits, and tries again. iRODS adds the number of the system's error to its own."""
    with pytest.raises(OutOfReach) as raised, about("/zone/a to dsp_resc"):
        raise ServerError(int(code) - errno, "")
    assert raised.value.code is code
    tls = code.name.startswith("SSL_")
    cause = "TLS between two servers of the zone failed" if tls else "another server of the zone does not answer"
    assert str(raised.value).startswith(f"/zone/a to dsp_resc: {cause} ({code.name})")


def test_other_refusals_are_not() -> None:
    assert not isinstance(translated(ServerError(int(Code.SYS_RESC_IS_DOWN), ""), "dsp_resc"), ZoneOutOfReach)
    assert not isinstance(translated(ServerError(-999000, ""), "dsp_resc"), ZoneOutOfReach)


@pytest.mark.parametrize(("code", "said"), [(-511036, "File name too long"), (-510013, "Permission denied")])
def test_what_a_vault_answers_is_in_words(code: int, said: str) -> None:
    """Codes that we know, and others."""
    assert said in str(translated(ServerError(code, ""), "/tempZone/home/alice/x"))
    assert "storage" not in str(translated(ServerError(code // 1000 * 1000 + 1000, ""), "/tempZone/home/alice/x"))
