"""How commands reach a workspace: the transport in process, the socket, the folder's lock."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from backstory.edge.app import app_api
from backstory.edge.local import CommandError, Opened, Session, refusal_text
from backstory.edge.transport import InProcess, socket_transport
from backstory.store.lock import FolderBusy
from tests.unit.fake_reader import FakeWorkspace

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\nconnection: close\r\n\r\n"


def opened(workspace: FakeWorkspace) -> tuple[Opened, ASGIApp]:
    return workspace, app_api(workspace, lambda scope: True, trusted=True)


@contextmanager
def listening(address: Path) -> Iterator[list[bytes]]:
    """A server that answers every request with one JSON value, and what it was asked."""
    asked: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65536)
                if request:
                    asked.append(request.split(b"\r\n")[0])
                    connection.sendall(ANSWER + b'{"from":"s"}')

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_without_a_server_the_folder_is_opened_and_closed(tmp_path: Path) -> None:
    """The same requests are answered in this process."""
    workspace = FakeWorkspace()
    with Session(tmp_path, lambda: opened(workspace)) as session:
        assert session.ask("GET", "/v1/segments") == {"segments": []}
        assert not workspace.is_closed
    assert workspace.is_closed


def test_a_refusal_is_told_in_its_own_words(tmp_path: Path) -> None:
    """The detail of the error and where it is."""
    with Session(tmp_path, lambda: opened(FakeWorkspace())) as session:
        with pytest.raises(CommandError, match=r"there is no segment 7"):
            session.ask("GET", "/v1/segments/7")
        with pytest.raises(CommandError, match=r"name cannot be blank \(at \$\.segment\.name\)"):
            session.ask("POST", "/v1/segments", body={"segment": {}})


def test_a_busy_folder_is_tried_again(tmp_path: Path) -> None:
    """A server that stops lets the folder go a little later."""
    pauses: list[float] = []

    def open_folder() -> tuple[Opened, ASGIApp]:
        if len(pauses) < 3:
            raise FolderBusy("in use")
        return opened(FakeWorkspace())

    with Session(tmp_path, open_folder, pause=pauses.append) as session:
        assert session.ask("GET", "/v1/segments")
    assert len(pauses) == 3


def test_a_folder_that_stays_busy_is_told(tmp_path: Path) -> None:
    """After some seconds the command gives up."""

    def open_folder() -> tuple[Opened, ASGIApp]:
        raise FolderBusy("in use")

    with pytest.raises(FolderBusy), Session(tmp_path, open_folder, pause=lambda seconds: None):
        pass


def test_a_running_server_is_asked(tmp_path: Path) -> None:
    """Over its socket, also where that is a link to a shorter path; the folder is not touched."""
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "backstory.sock").symlink_to(tmp_path / "backstory.sock")

    def open_folder() -> tuple[Opened, ASGIApp]:
        raise AssertionError("the server has the folder")

    with listening(tmp_path / "backstory.sock") as asked:
        for folder in (tmp_path, tmp_path / "linked"):
            with Session(folder, open_folder) as session:
                answer = session.ask("GET", "/v1/segments", query={"limit": 3, "start": None})
                assert answer == {"from": "s"}
    assert asked == [b"GET /v1/segments?limit=3 HTTP/1.1"] * 2


def test_a_socket_nobody_listens_on_is_no_server(tmp_path: Path) -> None:
    """What a killed server left behind is passed over."""
    path = tmp_path / "backstory.sock"
    assert socket_transport(path) is None
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    assert socket_transport(path) is None


def test_an_application_that_fails_before_it_answers_raises() -> None:
    """Its own error, not a broken answer."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no answer")

    transport = InProcess(broken)
    with httpx.Client(transport=transport) as client, pytest.raises(ValueError, match="no answer"):
        client.get("http://backstory/")


def test_an_answer_that_is_no_error_of_ours_is_shown_as_it_is() -> None:
    """Something else may listen there."""
    assert refusal_text(502, b"<html>") == "the server answered 502: <html>"
