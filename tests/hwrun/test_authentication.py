"""Who may talk: both ends prove the token, and nothing else gets in."""

import os
import socket
import threading

import pytest

from hwrun.errors import BadUsageError, PeerGoneError, ProtocolError, TimedOutError
from hwrun.wire import authentication
from hwrun.wire.authentication import AuthenticationError, Purpose, admit_dialler, prove_to_listener, read_token
from hwrun.wire.frames import VERSION


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return error


def handshake(dialler_token, listener_token, purpose=Purpose.DATA):
    """What both ends end with."""
    dialling, listening = socket.socketpair()
    results = {}
    thread = threading.Thread(
        target=lambda: results.update(dialled=outcome(prove_to_listener, dialling, dialler_token, purpose))
    )
    thread.start()
    results["admitted"] = outcome(admit_dialler, listening, listener_token)
    listening.close()
    thread.join()
    dialling.close()
    return results["dialled"], results["admitted"]


@pytest.mark.parametrize("token", [b"", b"a token of sixteen bytes or more"])
@pytest.mark.parametrize("purpose", list(Purpose))
def test_ends_with_the_same_token_admit_each_other(token, purpose):
    assert handshake(token, token, purpose) == (None, purpose)


@pytest.mark.parametrize(("dialler", "listener"), [(b"", b"secret"), (b"secret", b""), (b"secret", b"another")])
def test_ends_with_other_tokens_refuse_and_say_so_on_both_sides(dialler, listener):
    dialled, admitted = handshake(dialler, listener)
    assert isinstance(admitted, AuthenticationError)
    assert isinstance(dialled, AuthenticationError)
    assert "same token file" in str(dialled)


def test_a_listener_that_only_echoes_is_not_trusted():
    dialling, listening = socket.socketpair()

    def echo():
        listening.sendall(listening.recv(40))
        proof = listening.recv(32)
        listening.sendall(b"\1" + proof)

    thread = threading.Thread(target=echo)
    thread.start()
    with pytest.raises(AuthenticationError, match="could not prove"):
        prove_to_listener(dialling, b"secret", Purpose.CONTROL)
    thread.join()
    dialling.close()
    listening.close()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".ljust(40), bytes(40), b"\xff" * 40])
def test_what_is_not_of_the_protocol_is_refused_without_an_answer(garbage):
    ours, theirs = socket.socketpair()
    theirs.sendall(garbage)
    with pytest.raises(ProtocolError, match="does not speak"):
        admit_dialler(ours, b"secret")
    ours.close()
    assert theirs.recv(1) == b""
    theirs.close()


def test_a_silent_peer_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(authentication, "HANDSHAKE_LIMIT_S", 0.05)
    ours, theirs = socket.socketpair()
    theirs.sendall(b"hwra")
    with pytest.raises(TimedOutError, match="4 of 40 bytes"):
        admit_dialler(ours, b"secret")
    ours.close()
    theirs.close()


def test_a_peer_that_sends_a_byte_now_and_then_is_given_up_in_time_too(monkeypatch):
    monkeypatch.setattr(authentication, "HANDSHAKE_LIMIT_S", 0.2)
    ours, theirs = socket.socketpair()
    gone = threading.Event()

    def drip():
        for byte in authentication._HELLO.pack(b"hwra", VERSION, 1, bytes(32)):
            if gone.wait(0.03):
                return
            theirs.sendall(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    with pytest.raises(TimedOutError, match=r"of 40 bytes within 0\.2 s"):
        admit_dialler(ours, b"secret")
    gone.set()
    thread.join()
    ours.close()
    theirs.close()


def test_a_peer_that_leaves_is_named():
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(PeerGoneError):
        admit_dialler(ours, b"secret")
    ours.close()


def test_another_protocol_version_is_named_on_both_sides(monkeypatch):
    ours, theirs = socket.socketpair()
    other = VERSION + 7
    theirs.sendall(authentication._HELLO.pack(b"hwra", other, 1, bytes(32)))
    with pytest.raises(ProtocolError, match=f"the peer's is {other}, this one's {VERSION}"):
        admit_dialler(ours, b"secret")
    assert authentication._HELLO.unpack(theirs.recv(40))[1] == VERSION
    ours.close()
    theirs.close()


def test_a_token_file_must_be_secret_and_long_enough(tmp_path):
    path = tmp_path / "token"
    with pytest.raises(BadUsageError, match=r"cannot be read: No such file or directory; write one with: \(umask"):
        read_token(path)
    path.write_bytes(b"short\n")
    with pytest.raises(BadUsageError, match="holds 5 bytes, expected 16 or more"):
        read_token(path)
    path.write_bytes(b"0123456789abcdef\n")
    path.chmod(0o644)
    with pytest.raises(BadUsageError, match="chmod 600"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == b"0123456789abcdef"


def test_an_empty_name_of_a_credentials_folder_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "")
    path = tmp_path / "token"
    path.write_text("0123456789abcdef")
    path.chmod(0o640)
    with pytest.raises(BadUsageError, match="open to other users"):
        read_token(path)


@pytest.fixture
def credentials_folder(tmp_path, monkeypatch):
    """As systemd has it for a service: its user may read by an access control list, whose mask shows as the group's."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def written(path, mode):
    path.write_bytes(b"0123456789abcdef")
    path.chmod(mode)
    return path


def test_a_token_that_systemd_hands_a_service_as_a_credential_is_taken(credentials_folder):
    assert read_token(written(credentials_folder / "token", 0o440)) == b"0123456789abcdef"


def test_only_what_lies_in_the_folder_of_credentials_and_is_closed_to_others_is_one(credentials_folder, tmp_path):
    elsewhere = written(tmp_path / "token", 0o440)
    (credentials_folder / "below").mkdir()
    (credentials_folder / "link").symlink_to(elsewhere)
    for path in (
        elsewhere,
        credentials_folder / "link",
        written(credentials_folder / "below" / "token", 0o440),
        written(credentials_folder / "open", 0o444),
    ):
        with pytest.raises(BadUsageError, match=r"is open to other users \(mode 44[04]\); run: chmod 600"):
            read_token(path)


def test_a_credential_is_of_root_or_of_this_user(credentials_folder, monkeypatch):
    path = written(credentials_folder / "token", 0o440)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(BadUsageError, match="is open to other users"):
        read_token(path)
