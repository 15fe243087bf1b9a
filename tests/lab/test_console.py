"""A serial line is painted on; what a technician would read must come out, however it is cut."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from pxeboot.lab.console import Console, Screen
from pxeboot.lab.errors import ConsoleTimeout

PAINTED = (
    "\x1b[2J\x1b[01;01H\x1b[0;37;40mGNU GRUB\x1b[3;5H*Debian\x1b[3;20HGNU/Linux"
    "\r\n\x1b[Kdéjà\x1b(B vu\x1b[m\x07!"
)
READ = "GNU GRUB\n*Debian GNU/Linux\ndéjà vu!"


def test_escapes_go_and_words_of_different_places_stay_apart() -> None:
    assert Screen().feed(PAINTED.encode()) == READ


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_cut_of_the_stream_does_not_matter(size: int) -> None:
    screen, data = Screen(), PAINTED.encode()
    assert "".join(screen.feed(data[i : i + size]) for i in range(0, len(data), size)) == READ


def test_a_cursor_set_where_it_is_does_not_break_a_word() -> None:
    assert Screen().feed(b"\x1b[5;1Hto ed\x1b[5;6Hit") == "\nto edit"


@pytest.fixture
def line(tmp_path: Path) -> tuple[Console, socket.socket]:
    """A console and QEMU's end of its line."""
    path = tmp_path / "serial"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    console = Console(tmp_path / "console.log")
    console.attach(path, 20)
    machine, _ = server.accept()
    server.close()
    return console, machine


def test_expect_waits_for_what_comes_later_and_goes_on_after_it(line: tuple[Console, socket.socket]) -> None:
    console, machine = line
    with machine:
        threading.Timer(0.1, machine.sendall, [b"login: first\nlogin: second\n"]).start()
        assert console.expect(r"login: (\w+)", 20)[1] == "first"
        assert console.expect(r"login: (\w+)", 20)[1] == "second"
        with pytest.raises(ConsoleTimeout, match="within 0 s"):
            console.expect("login", 0.05)
        console.detach()


def test_a_word_that_comes_in_two_pieces_is_read_whole(line: tuple[Console, socket.socket]) -> None:
    console, machine = line
    with machine:
        machine.sendall(b"key=SHA256:/tXMU3")
        threading.Timer(0.5, machine.sendall, [b"RMkHXX\n"]).start()
        assert console.expect(r"key=(\S+)", 20)[1] == "SHA256:/tXMU3RMkHXX"
        console.detach()


def test_a_word_that_nothing_follows_is_taken_when_the_line_is_quiet(
    line: tuple[Console, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    console, machine = line
    monkeypatch.setattr("pxeboot.lab.console.QUIET", 0.1)
    with machine:
        machine.sendall(b"name=pc-1")
        assert console.expect(r"name=(\S+)", 20)[1] == "pc-1"
        console.detach()


def test_a_prompt_that_more_text_would_not_change_is_not_waited_for(
    line: tuple[Console, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    console, machine = line
    monkeypatch.setattr("pxeboot.lab.console.QUIET", 1e9)
    with machine:
        machine.sendall(b"grub>")
        assert console.expect("grub>|iPXE>", 20)[0] == "grub>"
        machine.sendall(b" secureboot=on")
        assert console.expect("secureboot=(on|off|none)", 20)[1] == "on"
        console.detach()


def test_the_first_of_several_wins(line: tuple[Console, socket.socket]) -> None:
    console, machine = line
    with machine:
        machine.sendall(b"panic: no root\nlogin:")
        index, match = console.expect_any(["login:", r"panic: (.*)"], 20)
        assert (index, match[1]) == (1, "no root")
        console.detach()


def test_a_machine_that_goes_off_ends_the_waiting_at_once(line: tuple[Console, socket.socket]) -> None:
    console, machine = line
    threading.Timer(0.1, machine.close).start()
    with pytest.raises(ConsoleTimeout, match="before the machine went off"):
        console.expect("never", 100)


def test_hands_type_one_key_after_the_other(line: tuple[Console, socket.socket]) -> None:
    console, machine = line
    with machine:
        threading.Timer(0.05, machine.sendall, [b"Name? "]).start()
        console.answer(r"Name\?", "pc-1", 20)
        assert machine.recv(64) == b"pc-1\r"
        console.detach()


def test_the_log_keeps_every_byte(line: tuple[Console, socket.socket], tmp_path: Path) -> None:
    console, machine = line
    machine.sendall(PAINTED.encode())
    machine.close()
    console.detach()
    assert (tmp_path / "console.log").read_bytes() == PAINTED.encode()
    assert console.text == READ
