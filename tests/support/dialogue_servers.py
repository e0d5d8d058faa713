"""Two servers for tests: one stands before an iRODS server and writes down what is said, the other
says it again.

They listen on this host, so that the whole client runs as it does elsewhere, sockets included. The
second one answers a request with the first answer recorded for an equal one that has not been given
yet: which connection and which thread asks does not matter.
"""

from __future__ import annotations

import contextlib
import difflib
import shutil
import socket
import socketserver
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from irods.api_number import api_number

from support.dialogues import (
    DISCONNECT,
    REQUEST,
    WITHIN_A_FILE,
    Conversation,
    Dialogue,
    Exchange,
    Message,
    NotRecordable,
    Surroundings,
    from_json,
    is_login,
    pack_content,
    receive,
    to_json,
    unpack_content,
    without_secrets,
)

RECORD_AGAIN: Final = "If the adapter should ask so, record the dialogue again: CONTRIBUTING.md says how."
_WRITING: Final = WITHIN_A_FILE - {api_number["DATA_OBJ_CLOSE_AN"]}
"""While a file is being written its content is not looked at."""


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                serve(self.request)

        super().__init__(("127.0.0.1", 0), Handler)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="dialogue")
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _DialogueServer:
    """What both have in common: a port, and the problems met."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._listener = _Listener(self._serve)

    @property
    def port(self) -> int:
        return int(self._listener.server_address[1])

    def listening(self) -> contextlib.AbstractContextManager[None]:
        """Clients are served while inside."""
        return self._listener.listening()

    def _serve(self, client: socket.socket) -> None:
        try:
            self._talk(client)
        except (ConnectionError, EOFError):
            pass  # a client may end a connection wherever it likes
        except Exception as error:  # noqa: BLE001 - the test says it, this thread is not the test's
            self.problems.append(f"a server of recorded dialogues failed: {error!r}")

    def _talk(self, client: socket.socket) -> None:
        raise NotImplementedError


class Recorder(_DialogueServer):
    """Passes on what is said to the server at ``address``, and keeps it until :meth:`taken`.

    ``watched`` gives the folders whose files the server may change.
    """

    def __init__(self, surroundings: Surroundings, address: tuple[str, int], watched: Callable[[], list[Path]]) -> None:
        super().__init__(surroundings)
        self._address = address
        self._watched = watched
        self._exchanges: list[Exchange] = []
        self._files: dict[str, tuple[int, int]] = {}

    def taken(self) -> list[Exchange]:
        """What has been said until now. NotRecordable when a secret was."""
        with self._lock:
            if self.problems:
                raise NotRecordable(self.problems[0])
            return list(self._exchanges)

    def _talk(self, client: socket.socket) -> None:
        conversation = Conversation(self.surroundings)
        with socket.create_connection(self._address) as server:
            while (request := receive(client)) is not None:
                server.sendall(request.pack())
                if request.type == DISCONNECT:
                    return
                answer = receive(server)
                self._keep(conversation, request, answer)
                if answer is None:
                    return
                client.sendall(answer.pack())

    def _keep(self, conversation: Conversation, request: Message, answer: Message | None) -> None:
        api = request.info if request.type == REQUEST else 0
        with self._lock:
            try:
                key = conversation.key(request)
                shown = self._shown(without_secrets(answer, api)) if answer else None
            except NotRecordable as error:
                self.problems.append(str(error))
                return
            if not is_login(key):
                files = {} if api in _WRITING else self._changed_files()
                self._exchanges.append(Exchange(key, shown, files))
            elif Exchange(key, shown) not in self._exchanges:
                self._exchanges.append(Exchange(key, shown))

    def _shown(self, answer: Message) -> dict[str, Any]:
        shown = to_json(answer, self.surroundings, whole=True)
        if from_json(shown, self.surroundings) != answer:
            raise NotRecordable(f"this answer cannot be written down: {answer}")
        return shown

    def _changed_files(self) -> dict[str, Any]:
        """The files that changed since this was asked last, with their contents; None for one that is gone."""
        found: dict[str, tuple[int, int]] = {}
        for folder in self._watched():
            for file in folder.rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if file.is_file() and not file.is_symlink():
                        found[str(file)] = (file.stat().st_mtime_ns, file.stat().st_size)
        changed = [file for file in found if found[file] != self._files.get(file)]
        gone = [file for file in self._files if file not in found]
        self._files = found
        contents = {file: pack_content(Path(file).read_bytes()) for file in changed}
        return {
            self.surroundings.take_out(file): content
            for file, content in [*contents.items(), *((file, None) for file in gone)]
        }


class Replayer(_DialogueServer):
    """Answers as a server did when the dialogue was recorded. A request that was not made then ends its
    connection, and is a problem."""

    def __init__(self, dialogue: Dialogue, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._left: dict[str, deque[Exchange]] = {}
        for each in dialogue.exchanges:
            self._left.setdefault(each.key, deque()).append(each)

    def _talk(self, client: socket.socket) -> None:
        conversation = Conversation(self.surroundings)
        while (request := receive(client)) is not None and request.type != DISCONNECT:
            found = self._find(conversation.key(request))
            if found is None or found.answer is None:
                return
            client.sendall(from_json(found.answer, self.surroundings).pack())

    def _find(self, key: str) -> Exchange | None:
        with self._lock:
            waiting = self._left.get(key)
            if waiting:
                exchange = waiting[0] if is_login(key) and len(waiting) == 1 else waiting.popleft()
                self._change_files(exchange.files)
                return exchange
            self.problems.append(self._unexpected(key))
            return None

    def _change_files(self, files: dict[str, Any]) -> None:
        for name, packed in sorted(files.items(), key=lambda each: each[1] is not None):  # a folder may follow a file
            file = Path(self.surroundings.put_in(name))
            if packed is None:
                file.unlink(missing_ok=True)
                continue
            if file.is_dir():
                shutil.rmtree(file)  # the folder that was there has been moved away
            file.parent.mkdir(parents=True, exist_ok=True)
            content = unpack_content(packed)
            if not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)

    def _unexpected(self, key: str) -> str:
        """What was asked, beside the recorded request that is most like it."""
        known = list(self._left)
        near = max(known, key=lambda each: difflib.SequenceMatcher(None, each, key).quick_ratio(), default="")
        if near == key:
            return f"The test asks this more often than when it was recorded:\n{key}\n{RECORD_AGAIN}"
        lines = difflib.unified_diff(near.splitlines(), key.splitlines(), "recorded", "asked now", lineterm="")
        return "\n".join(("The test asks what it did not ask when it was recorded:", *lines, RECORD_AGAIN))

    def need_all_said(self) -> None:
        """AssertionError for the first unexpected request, else for one that was recorded and not made."""
        with self._lock:
            assert not self.problems, self.problems[0]
            left = [each.key for waiting in self._left.values() for each in waiting if not is_login(each.key)]
            assert not left, (
                f"The test asked {len(left)} times more when it was recorded, first:\n{left[0]}\n{RECORD_AGAIN}"
            )
