"""The client of the task plane: patience with a server that is away, clear errors from one that says no."""

import socket
import threading
import time
from pathlib import Path

import pytest

from imaging.agent.errors import AgentError
from imaging.agent.server import Server
from tests.imaging.agent.room import Room


def checked_in(room: Room, patience: float = 30.0) -> Server:
    server = Server(room.url, patience=patience)
    server.checkin(room.token(), "52:54:00:00:00:01", "0", {})
    return server


def test_a_server_restarted_meanwhile_is_found_again_and_the_credential_still_holds(room: Room) -> None:
    server = checked_in(room)
    told: list[str] = []
    server.trouble = told.append
    room.stop()
    timer = threading.Timer(0.6, room.start)
    timer.start()
    assert server.registration()["suggested_name"] == "b204-01"
    assert told  # and the console was told once that we wait
    timer.join()


def test_a_server_that_stays_away_ends_in_a_sentence(room: Room) -> None:
    server = checked_in(room, patience=0.5)
    room.stop()
    start = time.monotonic()
    with pytest.raises(AgentError, match="did not answer for 0 s") as caught:
        server.registration()
    assert caught.value.code == "server-unreachable"
    assert 0.4 < time.monotonic() - start < 20
    room.start()


def test_waiting_ends_at_once_when_the_agent_stops(room: Room) -> None:
    server = checked_in(room, patience=60)
    room.stop()
    threading.Timer(0.2, server.stop.set).start()
    start = time.monotonic()
    with pytest.raises(AgentError, match="stopping"):
        server.registration()
    assert time.monotonic() - start < 30
    room.start()


@pytest.mark.parametrize(("state", "code"), [("used", "token-used"), ("expired", "token-expired")])
def test_a_token_that_is_no_good_is_not_tried_again(room: Room, state: str, code: str) -> None:
    with pytest.raises(AgentError, match="This boot token is") as caught:
        Server(room.url).checkin(room.token(state), "52:54:00:00:00:01", "0", {})
    assert (caught.value.code, caught.value.status) == (code, 401)
    assert len(room.requests) == 1


def test_one_connection_serves_many_calls(room: Room) -> None:
    server = checked_in(room)
    first = server._connection
    for _ in range(5):
        server.registration()
    assert server._connection is first


def test_which_chunks_the_store_lacks(room: Room, tmp_path: Path) -> None:
    from imaging.chunks import compress, hash_chunk

    server = checked_in(room)
    data = b"x" * 1000
    hash = hash_chunk(data)
    frame = compress(data)
    assert server.missing("7", [hash, bytes(32)]) == [True, True]
    assert server.put_chunks("7", hash + len(frame).to_bytes(4, "big") + frame) == 1
    assert server.missing("7", [hash, bytes(32)]) == [False, True]
    assert server.chunk(hash) == frame
    with pytest.raises(AgentError) as caught:
        server.chunk(bytes(32))
    assert (caught.value.code, caught.value.status) == ("chunk-missing", 404)


def test_no_session_is_none(room: Room) -> None:
    server = checked_in(room)
    assert server.session("7") is None
    room.session = {"id": 1}
    assert server.session("7") == {"id": 1}


def test_an_outcome_whose_answer_was_lost_counts_as_delivered(room: Room) -> None:
    """The server is killed after it noted the outcome: the repeated call meets a finished task."""
    server = checked_in(room)
    calls = 0

    def once(*_: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionResetError("killed")
        from imaging.agent.server import Answer

        return Answer(409, {}, b'{"code": "task-finished", "detail": "The task has ended."}', 1)

    server._once = once  # type: ignore[method-assign,assignment]
    assert server.outcome("7", {}) == {}
    with pytest.raises(AgentError):  # at the first try it is a refusal
        server.outcome("7", {})


def test_an_upload_may_take_longer_than_the_timeout_while_some_of_it_is_taken() -> None:
    body = bytes(range(256)) * (16 << 12)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        taken = bytearray()

        def take() -> None:
            connection, _ = listener.accept()
            with connection:
                while len(taken) - taken.find(b"\r\n\r\n") - 4 < len(body):
                    taken.extend(connection.recv(256 << 10))
                    time.sleep(0.02)  # a fraction of the timeout, a hundred times and more
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"stored":1}')

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}", patience=0, timeout=1.5)
        assert server.put_chunks("7", body) == 1
        thread.join()
    head, _, rest = bytes(taken).partition(b"\r\n\r\n")
    assert (b"Content-Length: 16777216" in head, rest == body) == (True, True)


def test_not_a_url() -> None:
    with pytest.raises(AgentError, match="Not a server's URL"):
        Server("pxeboot.example")
