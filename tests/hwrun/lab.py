"""A lab for tests: a testbed file of hosts on loopback addresses, whose workers are really started and ended."""

import sys
from pathlib import Path

import msgspec

from hwrun.cli import main
from hwrun.wire.authentication import new_token
from tests.hwrun.sshd import free_port

ROOT = Path(__file__).resolve().parents[2]


class Lab:
    """A testbed file of hosts on loopback addresses, its token, and what is run with it."""

    def __init__(self, folder, logins):
        self.folder = folder
        self.token = new_token()
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_bytes(self.token)
        self.path = folder / "lab.toml"
        command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "hwrun.cli"]
        words = ", ".join(f'"{word}"' for word in command)
        self.text = 'token_file = "token"\n'
        for number, login in enumerate(logins, start=1):
            self.text += (
                f'[[hosts]]\nname = "h{number}"\naddress = "127.0.0.{number}"\ndevice = "x86-core"\n'
                f"control_port = {free_port()}\ndata_port = {free_port()}\ncommand = [{words}]\n"
                f'folder = "{folder / "there"}"\n{f"ssh = {login}" if login else ""}\n'
            )
        self.path.write_text(self.text)

    def run(self, command, capsys, *options):
        code = main([command, "--testbed", str(self.path), *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    def process_ids(self, capsys):
        out = self.run("status", capsys, "--json")[1]
        return [host["state"] and host["state"]["pid"] for host in msgspec.json.decode(out)["hosts"]]
