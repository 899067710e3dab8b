"""The root shell's protocol, spoken with a real shell behind a socket."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imagebuild.errors import VerifyError
from imagebuild.verify import guest as module
from imagebuild.verify.guest import Guest, GuestSilentError
from imagebuild.verify.machine import Machine
from tests.unit.verify_machine import stand_in


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(module, "DIRECTORY", str(tmp_path))
    with stand_in(tmp_path) as made:
        yield made


@pytest.fixture
def guest(machine: Machine) -> Iterator[Guest]:
    """A guest whose shell is one of this host, started for each connection as in the guest."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(machine.shell))
        listener.listen()

        def work() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    ends = connection.fileno()
                    subprocess.run(["sh"], stdin=ends, stdout=ends, check=False)

        threading.Thread(target=work, daemon=True).start()
        with Guest(machine) as made:
            yield made
        listener.shutdown(socket.SHUT_RDWR)


def test_a_command_has_its_status_and_both_streams(guest: Guest) -> None:
    result = guest.run("echo 'one \"two\" $HOME'; echo three >&2; exit 7")
    assert (result.rc, result.out) == (7, 'one "two" $HOME\nthree\n')
    assert guest.out("printf '\\001\\344x'; cat") == "\x01\ufffdx"  # its standard input is empty


def test_what_a_command_says_cannot_end_the_answer(guest: Guest) -> None:
    text = "x" * 200_000
    assert guest.out(f"echo '<0 0>\n>'; printf {text}") == f"<0 0>\n>\n{text}"


def test_a_command_that_hangs_is_ended_in_the_guest(guest: Guest) -> None:
    assert guest.run("echo begun; sleep 50", timeout=1).rc == 124
    assert guest.out("echo next") == "next"


def test_a_failed_command_says_what_it_said(guest: Guest) -> None:
    with pytest.raises(VerifyError) as caught:
        guest.out("echo no such thing >&2; false")
    assert "no such thing" in caught.value.detail


def test_threads_get_their_own_answers(guest: Guest) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: guest.out(f"echo {n}"), range(12)))
    assert answers == [str(n) for n in range(12)]


def test_waiting_ends_with_the_wanted_result(guest: Guest, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    command = f"echo x >>{counter}; wc -l <{counter}"
    found = guest.wait_for(command, lambda r: r.out.strip() == "3", timeout=30, every=0.01)
    assert found.out.strip() == "3"
    assert guest.wait_for("false", timeout=0.1, every=0.01).rc == 1


def test_a_mute_guest_is_named_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MUTE", 0.5)
    with Guest(machine) as guest, pytest.raises(GuestSilentError):
        guest.run("true")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(machine.shell))
        listener.listen()
        with Guest(machine) as guest, pytest.raises(GuestSilentError) as caught:
            guest.run("true")
    assert "mute" in caught.value.detail


def test_without_a_key_there_is_no_second_way(machine: Machine) -> None:
    with Guest(machine, user="ubuntu") as guest:
        assert not guest.can_ssh
        assert guest.ssh_argv() is None
        assert guest.run_by_ssh("true", 1) is None
