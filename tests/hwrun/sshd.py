"""A real sshd for tests: Debian's program, with keys, configuration and port of its own, beside the machine's."""

import contextlib
import getpass
import os
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
MISSING = "sshd is not installed (Debian: openssh-server)"


def free_port():
    """A port below those that the kernel gives to connections: none of them takes it before its listener does."""
    while True:
        port = random.SystemRandom().randrange(16_384, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


class Sshd:
    """Listens on 127.0.0.1 and 127.0.0.2 at `port`; lets in the user of the test by `key` alone."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.port = free_port()
        self.user = getpass.getuser()
        self.key = _key(self.folder / "user_key")
        self.known_hosts = self.folder / "known_hosts"
        host_key = _key(self.folder / "host_key")
        public = host_key.with_suffix(".pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port},[127.0.0.2]:{self.port} {public}")
        authorized = self.folder / "authorized_keys"
        authorized.write_text(self.key.with_suffix(".pub").read_text())
        authorized.chmod(0o600)
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nListenAddress 127.0.0.2\nHostKey {host_key}\n"
            f"PidFile {self.folder / 'sshd.pid'}\nAuthorizedKeysFile {authorized}\nStrictModes no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin yes\n"
        )
        # As root it drops its rights into a folder that Debian's start script makes, on some of its versions.
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._log = (self.folder / "sshd.log").open("wb")
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stdout=self._log, stderr=self._log)
        deadline_s = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self._process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < deadline_s, "sshd does not answer"
            time.sleep(0.02)

    def login(self, host=None):
        """The `ssh` table of a testbed file."""
        there = f', host = "{host}"' if host else ""
        return (
            f'{{ user = "{self.user}", port = {self.port}, key = "{self.key}",'
            f' known_hosts = "{self.known_hosts}"{there} }}'
        )

    def close(self):
        self._process.terminate()
        self._process.wait(timeout=10)
        self._log.close()
