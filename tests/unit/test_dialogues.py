"""Dialogues with an iRODS server that are recorded and replayed: nothing gets lost, nothing goes unnoticed."""

from __future__ import annotations

import gzip
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from irods.api_number import api_number
from support.dialogue_servers import RECORD_AGAIN, Recorder, Replayer
from support.dialogues import (
    CONNECT,
    DISCONNECT,
    NUMBER,
    REQUEST,
    Conversation,
    Dialogue,
    Exchange,
    Message,
    NotRecordable,
    Surroundings,
    pack_content,
    receive,
    to_json,
    unpack_content,
)
from support.recorded_zone import DIALOGUES

THERE, HERE = Surroundings("vm", "/var/lib/irods"), Surroundings("other.example.org", "/tmp/replayed")
LOGIN = Message(CONNECT, body=b"<proxyUser>alice</proxyUser><proxyRcatZone>tempZone</proxyRcatZone>"
                b"<clientUser>alice</clientUser><clientRcatZone>tempZone</clientRcatZone>")  # fmt: skip
VERSION = Message("RODS_VERSION", body=b"<Version_PI></Version_PI>")
BYE = Message(DISCONNECT)


def request(name: str, body: bytes = b"", content: bytes = b"") -> Message:
    return Message(REQUEST, api_number[name], body, content=content)


def answer(body: bytes = b"", info: int = 0, content: bytes = b"") -> Message:
    return Message("RODS_API_REPLY", info, body, content=content)


def dialogue(*said: tuple[Message, Message | None], where: Surroundings = THERE) -> Dialogue:
    conversation = Conversation(where)
    exchanges = [
        Exchange(conversation.key(asked), to_json(answered, where, whole=True) if answered else None)
        for asked, answered in ((LOGIN, VERSION), *said)
    ]
    return Dialogue({"irods_zone_name": "tempZone"}, exchanges)


def ask(port: int, *requests: Message) -> list[Message | None]:
    """What a client hears that logs in, asks these and says goodbye."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        heard = []
        for each in (LOGIN, *requests):
            client.sendall(each.pack())
            heard.append(receive(client))
        client.sendall(BYE.pack())
        return heard[1:]


@contextmanager
def replaying(said: Dialogue, where: Surroundings = HERE) -> Iterator[Replayer]:
    replayer = Replayer(said, where)
    with replayer.listening():
        yield replayer


@contextmanager
def recording(server: Replayer, *watched: Path) -> Iterator[Recorder]:
    recorder = Recorder(server.surroundings, ("127.0.0.1", server.port), lambda: list(watched))
    with recorder.listening():
        yield recorder


STAT = request("GEN_QUERY_AN", b"<path>/tempZone/home/alice/x</path>")
ROW = answer(b"<value>/var/lib/irods/Vault/x</value><value>vm</value><value>vmstat</value>")


def test_what_was_recorded_is_said_again_elsewhere(tmp_path: Path) -> None:
    progress, go_on = answer(info=99999996), Message(NUMBER, 99999997)
    long = bytes(range(256)) * 400
    put = request("DATA_OBJ_PUT_AN", b"<path>x</path>", long)
    get = request("DATA_OBJ_GET_AN", b"<path>x</path>")
    said = [(STAT, ROW), (get, progress), (go_on, answer(content=long)), (put, answer(info=-1000))]
    with replaying(dialogue(*said), THERE) as server, recording(server) as recorder:
        assert ask(recorder.port, *(asked for asked, _ in said)) == [answered for _, answered in said]
    Dialogue({}, recorder.taken()).save(tmp_path / "a" / "said.jsonl.gz")
    assert (tmp_path / "a" / "said.jsonl.gz").stat().st_size < 1500
    with replaying(Dialogue.load(tmp_path / "a" / "said.jsonl.gz")) as again:
        heard = ask(again.port, *(asked for asked, _ in said))
    again.need_all_said()
    row = answer(b"<value>/tmp/replayed/Vault/x</value><value>other.example.org</value><value>vmstat</value>")
    assert heard == [row, *(answered for _, answered in said[1:])]


def test_a_changed_request_fails_and_says_where() -> None:
    with replaying(dialogue((STAT, ROW))) as server:
        assert ask(server.port, request("GEN_QUERY_AN", b"<path>/tempZone/home/alice/y</path>")) == [None]
    with pytest.raises(AssertionError) as caught:
        server.need_all_said()
    assert "-<path>/tempZone/home/alice/x</path>\n+<path>/tempZone/home/alice/y</path>" in str(caught.value)
    assert RECORD_AGAIN in str(caught.value)


@pytest.mark.parametrize(
    "other",
    [
        request("DATA_OBJ_PUT_AN", b"<path>x</path>", b"b"),
        request("DATA_OBJ_PUT_AN", b"<path>x</path>"),
        request("DATA_OBJ_GET_AN", b"<path>x</path>", b"a"),
    ],
    ids=["other bytes", "no bytes", "another call"],
)
def test_bytes_and_calls_count(other: Message) -> None:
    with replaying(dialogue((request("DATA_OBJ_PUT_AN", b"<path>x</path>", b"a"), answer()))) as server:
        assert ask(server.port, other) == [None]
    assert len(server.problems) == 1


def test_a_request_more_than_was_recorded_fails() -> None:
    with replaying(dialogue((STAT, ROW))) as server:
        assert ask(server.port, STAT, STAT)[1] is None
    with pytest.raises(AssertionError, match="more often than when it was recorded"):
        server.need_all_said()


def test_a_request_less_than_was_recorded_fails() -> None:
    with replaying(dialogue((STAT, ROW), (STAT, ROW))) as server:
        ask(server.port, STAT)
    with pytest.raises(AssertionError, match="asked 1 times more when it was recorded"):
        server.need_all_said()


def test_another_account_is_not_answered() -> None:
    with replaying(dialogue((STAT, ROW))) as server:
        server._left = {key.replace("alice#", "bob#", 1): left for key, left in server._left.items()}
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(LOGIN.pack())
            assert receive(client) is None
    assert len(server.problems) == 1


def test_connections_may_be_more_than_were_recorded() -> None:
    with replaying(dialogue((STAT, ROW), (STAT, answer()))) as server:
        assert [ask(server.port, STAT)[0] and True, ask(server.port, STAT)] == [True, [answer()]]
    server.need_all_said()


def test_reading_goes_on_where_the_connection_is() -> None:
    """Two threads that read different files, or places of one, ask the same."""
    read = request("DATA_OBJ_READ_AN", b"<l1descInx>3</l1descInx>")

    def opened(name: str) -> Message:
        return request("DATA_OBJ_OPEN_AN", f"<objPath>/tempZone/{name}</objPath>".encode())

    def seek(offset: int) -> Message:
        return request("DATA_OBJ_LSEEK_AN", f"<offset>{offset}</offset>".encode())

    said: list[tuple[Message, Message | None]] = []
    for name in "ab":
        said.append((opened(name), answer(info=3)))
        for offset in (0, 4):
            said += [(seek(offset), answer()), (read, answer(content=f"{name}{offset}".encode()))]
    with replaying(dialogue(*said)) as server:
        second = ask(server.port, opened("b"), seek(4), read, seek(0), read)
        first = ask(server.port, opened("a"), seek(0), read, seek(4), read)
    assert second[2::2] == [answer(content=b"b4"), answer(content=b"b0")]
    assert first[2::2] == [answer(content=b"a0"), answer(content=b"a4")]
    server.need_all_said()


def test_an_end_of_the_connection_is_replayed() -> None:
    with replaying(dialogue((STAT, None)), THERE) as server, recording(server) as recorder:
        assert ask(recorder.port, STAT) == [None]
    with replaying(Dialogue({}, recorder.taken())) as again:
        assert ask(again.port, STAT) == [None]
    again.need_all_said()


def test_files_of_the_vaults_change_as_they_did(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        (folder / "vault").mkdir(parents=True)
    large = b"".join(number.to_bytes(8, "big") for number in range(200_000))
    place = Surroundings("vm", str(there))
    said = dialogue(*[(STAT, answer())] * 3, where=place)
    for exchange, files in zip(said.exchanges[1:], ({"a": "a", "b": "b"}, {"a": None, "b": pack_content(large)}, {})):
        exchange.files = {f"${{site}}/vault/{name}": content for name, content in files.items()}
    with replaying(said, place) as server, recording(server, there / "vault") as recorder:
        ask(recorder.port, STAT, STAT, STAT)
    taken = recorder.taken()
    assert [sorted(each.files) for each in taken[1:]] == [sorted(each.files) for each in said.exchanges[1:]]
    with replaying(Dialogue({}, taken), Surroundings("vm", str(here))) as again:
        ask(again.port, STAT)
        assert {file.name: file.read_bytes() for file in (here / "vault").iterdir()} == {"a": b"a", "b": b"b"}
        ask(again.port, STAT)
        assert {file.name: file.read_bytes() for file in (here / "vault").iterdir()} == {"b": large}


def test_large_files_of_the_tests_take_little_room() -> None:
    content = b"".join(number.to_bytes(8, "big") for number in range(500_000))
    assert len(pack_content(content)["xz"]) < 3000
    assert unpack_content(pack_content(content)) == content
    assert [unpack_content(pack_content(each)) for each in (b"", b"a", b"\0\xff")] == [b"", b"a", b"\0\xff"]


LOGS_IN = b"<BinBytesBuf_PI>\n<buflen>53</buflen>\n<buf>%s</buf>\n</BinBytesBuf_PI>\n"


def test_no_password_is_recorded() -> None:
    import base64

    secret = base64.b64encode(b'{"request_result": "challenge", "digest": "response"}')
    login = request("AUTHENTICATION_APN", LOGS_IN % secret)
    password = request("GENERAL_ADMIN_AN", b"<arg3>password</arg3>\n<arg4>scrambled</arg4>\n<arg9>\n</arg9>\n")
    said = dialogue((login, answer(LOGS_IN % secret)), (password, answer()))
    with replaying(said, THERE) as server, recording(server) as recorder:
        ask(recorder.port, login, password)
    text = repr(recorder.taken())
    assert not [word for word in ("challenge", "response", "scrambled", secret.decode()) if word in text]
    assert "request_result" in text


def test_where_the_server_was_built_is_not_recorded() -> None:
    refusal = Message("RODS_API_REPLY", -1000, error=b"<msg>[/build/irods/server/a-b.cpp:12:f] no /tempZone/x</msg>")
    with replaying(dialogue((STAT, refusal)), THERE) as server, recording(server) as recorder:
        assert ask(recorder.port, STAT) == [refusal]
    assert recorder.taken()[-1].answer["error"] == "<msg>[a-b.cpp:12:f] no /tempZone/x</msg>"


@pytest.mark.parametrize("name", ["AUTH_REQUEST_AN", "AUTH_RESPONSE_AN", "PAM_AUTH_REQUEST_AN"])
def test_what_cannot_be_kept_secret_is_not_recorded(name: str) -> None:
    with pytest.raises(NotRecordable, match="native authentication"):
        Conversation(THERE).key(request(name))


def test_the_recorded_dialogues_hold_no_password() -> None:
    secret = re.compile(r'"(digest|request_result|password|a_pw)\\*" ?: ?\\*"[^\\"]|password</arg\d>\\n<arg|pw-c2dt')
    files = sorted(DIALOGUES.rglob("*.gz"))
    assert files
    found = {file.name: secret.search(gzip.decompress(file.read_bytes()).decode()) for file in files}
    assert {name: match for name, match in found.items() if match} == {}
