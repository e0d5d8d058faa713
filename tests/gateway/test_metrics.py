"""``/metrics``: who may read it, what it tells of tasks, and what that costs the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway, gateway_settings, give_passwords, running
from support.site import COMPUTE, RODS, TrialSite

from compute_to_data.coordination import published_line
from compute_to_data.coordination.published_line import PublishedLine
from compute_to_data.errors import ConfigurationError, ZoneOutOfReach
from compute_to_data.gateway import task_figures
from compute_to_data.model import Avu, Entity, EntityKind, Query, Row
from compute_to_data.zones.embedded.entrance import EmbeddedEntrance

TOKEN = "t0ken" * 10
NOWHERE = ["192.0.2.0/24"]


@pytest.fixture
def gateway(site: TrialSite) -> Iterator[RunningGateway]:
    """It tells its figures to no address."""
    give_passwords(site)
    site.zone.set_password(RODS, "the administrator's")
    (site.folder / "token").write_text(f"{TOKEN}\n")
    more = {"metrics_from": NOWHERE, "metrics_token_file": str(site.folder / "token")}
    with running(gateway_settings(site, **more)) as started:
        yield started


def read(gateway: RunningGateway, **options: object) -> httpx.Response:
    return httpx.get(f"{gateway.url}/metrics", trust_env=False, timeout=60, **options)  # type: ignore[arg-type]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_who_may_read_it(gateway: RunningGateway) -> None:
    assert read(gateway, headers=bearer(TOKEN)).status_code == 200
    assert read(gateway, auth=("rods", "the administrator's")).status_code == 200
    forwarded = {**bearer(TOKEN), "X-Forwarded-For": "203.0.113.1"}
    assert read(gateway, headers=forwarded).status_code == 200, "the token is good behind a proxy, too"


def test_who_may_not(gateway: RunningGateway) -> None:
    """Nobody, an ordinary user by password and by token, a wrong token, a cookie of an administrator's browser."""
    with gateway.client("alice") as client:
        alices = client.post("/authenticate").text
    admins = httpx.post(f"{gateway.url}/authenticate", auth=("rods", "the administrator's"), trust_env=False).text
    assert read(gateway).status_code == 404
    assert read(gateway, auth=("alice", PASSWORDS["alice"])).status_code == 404
    assert read(gateway, headers=bearer(alices)).status_code == 404
    assert read(gateway, headers={"Cookie": f"c2d_session={admins}"}).status_code == 404
    for wrong in (TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ü"):
        headers = httpx.Headers({"Authorization": f"Bearer {wrong}".encode()})
        assert read(gateway, headers=headers).status_code == 401, wrong
    assert read(gateway, auth=("rods", "wrong")).status_code == 401


def test_without_a_token_in_the_settings_no_token_opens_it(site: TrialSite) -> None:
    with running(gateway_settings(site, metrics_from=NOWHERE)) as gateway:
        assert read(gateway).status_code == 404
        assert read(gateway, headers={"Authorization": "Bearer"}).status_code == 401


@pytest.mark.parametrize("content", ["", "short", "x" * 31, "with a space in its middle and 32 characters"])
def test_a_token_that_can_be_guessed_is_refused(site: TrialSite, content: str) -> None:
    (site.folder / "token").write_text(content)
    with pytest.raises(ConfigurationError, match="at least 32 characters"):
        gateway_settings(site, metrics_token_file=str(site.folder / "token"))


def scraped(gateway: RunningGateway) -> str:
    """What three scrapes tell: each asks one thing."""
    for _ in range(2):
        read(gateway, headers=bearer(TOKEN))
    return read(gateway, headers=bearer(TOKEN)).text


def test_states_and_durations_of_all_users_tasks(gateway: RunningGateway, site: TrialSite) -> None:
    for _ in range(2):
        assert site.run(site.request("/bin/true"))["state"] == "COMPLETED"
    assert site.run(site.request("/bin/false"))["state"] == "FAILED"
    site.submit(site.request("/bin/true"))
    text = scraped(gateway)
    found = dict(re.findall(r'^c2d_newest_tasks\{state="(\w+)"\} (\S+)$', text, re.MULTILINE))
    assert found == {
        "WAITING": "0.0", "QUEUED": "1.0", "STAGING_IN": "0.0", "RUNNING": "0.0", "STAGING_OUT": "0.0",
        "COMPLETED": "2.0", "FAILED": "1.0", "CANCELLED": "0.0",
    }  # fmt: skip
    seconds = dict(re.findall(r'^c2d_newest_task_processing_seconds\{quantile="([\d.]+)"\} (\S+)$', text, re.MULTILINE))
    assert list(seconds) == ["0.5", "0.9", "0.99", "1.0"]
    assert 0 <= float(seconds["0.5"]) <= float(seconds["1.0"]) < 60
    assert "alice" not in text


def test_the_line_of_each_resource(gateway: RunningGateway, site: TrialSite) -> None:
    """As its worker publishes it; not what it cannot mean."""
    service = site.zone.storage().catalog
    line = PublishedLine(capacity=4, running=3, waiting=7000, users=2, first=())
    published_line.publish(service, site.configuration.attributes, COMPUTE, line)
    attribute = published_line.attribute(site.configuration.attributes)
    service.annotate(Entity(EntityKind.RESOURCE, "demoResc"), add=[Avu(attribute, '{"waiting": "x"}', "1")])
    text = scraped(gateway)
    found = dict(re.findall(r'^(c2d_queue_\w+)\{resource="(?:\w+)"\} (\S+)$', text, re.MULTILINE))
    assert found == {"c2d_queue_waiting": "7000.0", "c2d_queue_running": "3.0", "c2d_queue_capacity": "4.0"}
    assert "demoResc" not in text
    published_line.publish(service, site.configuration.attributes, COMPUTE, None)
    gateway.gateway.task_figures._lines.asked = None
    assert "c2d_queue_waiting{" not in scraped(gateway)


def test_a_scrape_asks_one_bounded_question_and_not_again_at_once(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Query] = []
    figures = gateway.gateway.task_figures
    original, original_of_resources = figures._ask, figures._ask_resources
    of_resources: list[str] = []

    def ask(query: Query) -> tuple[Row, ...]:
        asked.append(query)
        return tuple(original(query))

    def ask_resources(attribute: str) -> Mapping[str, Avu]:
        of_resources.append(attribute)
        return original_of_resources(attribute)

    monkeypatch.setattr(figures, "_ask", ask)
    monkeypatch.setattr(figures, "_ask_resources", ask_resources)
    monkeypatch.setattr(task_figures, "KEPT_SECONDS", 1e6)
    for expected in (1, 2, 3, 3, 3):
        read(gateway, headers=bearer(TOKEN))
        assert len(asked) + len(of_resources) == expected
    assert of_resources == [figures._lines.attribute]
    assert {one.attribute for one in asked} == {figures._states.attribute, figures._seconds.attribute}
    assert all(one.newest_first and one.limit == task_figures.MOST for one in asked)
    monkeypatch.setattr(task_figures, "KEPT_SECONDS", 0.0)
    read(gateway, headers=bearer(TOKEN))
    assert len(asked) == 3
    read(gateway)
    assert len(asked) + len(of_resources) == 4, "who may not read it causes no question"


def test_what_an_owner_writes_is_no_figure(gateway: RunningGateway, site: TrialSite) -> None:
    figures = gateway.gateway.task_figures
    for number, (state, seconds) in enumerate([('x"} 1\nevil', "nan"), ("queued", "-5"), ("QUEUED", "1e999")]):
        path = f"/tempZone/home/alice/{number}"
        site.alice.create_collection(path)
        avus = [Avu(figures._states.attribute, state), Avu(figures._seconds.attribute, seconds)]
        site.alice.annotate(Entity(EntityKind.COLLECTION, path), add=avus)
    text = scraped(gateway)
    assert "evil" not in text
    assert 'c2d_newest_tasks{state="QUEUED"} 1.0' in text
    assert "c2d_newest_task_processing_seconds{" not in text


def test_a_figure_that_is_not_known_is_left_out(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_figures, "KEPT_SECONDS", 0.0)
    assert 'c2d_newest_tasks{state="QUEUED"} 0.0' in scraped(gateway)

    def fails(query: Query) -> tuple[Row, ...]:
        raise ZoneOutOfReach("the zone", "does not answer")

    monkeypatch.setattr(gateway.gateway.task_figures, "_ask", fails)
    monkeypatch.setattr(gateway.gateway.task_figures, "_ask_resources", fails)
    text = scraped(gateway)
    assert "c2d_newest_tasks{" not in text
    assert "c2d_queue_waiting" not in text
    assert "c2d_gateway_tokens" in text, "the gateway's own figures are there"


def test_who_cannot_be_asked_about_is_no_administrator(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: EmbeddedEntrance, user: object) -> bool:
        raise ConfigurationError("the environment", "has no password")

    monkeypatch.setattr(EmbeddedEntrance, "is_administrator", fails)
    assert read(gateway, auth=("rods", "the administrator's")).status_code == 404
