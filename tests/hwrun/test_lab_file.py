"""The testbed file: what is read from it, and that what cannot be is refused with file, field, got and expected."""

import pytest

from hwrun.errors import BadUsageError
from hwrun.remote.lab_file import read_lab

TWO_PIS = """
token_file = "lab.token"

[[hosts]]
name = "pi1"
address = "192.168.7.11"
device = "rpi4b"
interface = "eth0"
threads = 4
cores = "0-3"
command = ["paretosim/.venv/bin/hwrun"]
ssh = { user = "pi", key = "id_lab" }

[[hosts]]
name = "server"
address = "192.168.7.1"
data_address = "10.0.0.1"
device = "rtx4090"
control_port = 7080
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "lab.toml"
        path.write_text(text)
        return path

    return write


def test_hosts_are_read_in_order_with_what_is_left_out_at_its_default(written, tmp_path):
    testbed = read_lab(written(TWO_PIS))
    pi, server = testbed.hosts
    assert (testbed.name, [host.name for host in testbed.hosts]) == ("lab", ["pi1", "server"])
    assert (str(pi.control), str(pi.data), pi.ssh.port) == ("192.168.7.11:7070", "192.168.7.11:7071", 22)
    assert (str(server.control), str(server.data)) == ("192.168.7.1:7080", "10.0.0.1:7071")
    assert (server.ssh, server.threads, server.tls) == (None, 1, None)
    assert testbed.token_path == tmp_path / "lab.token"
    assert testbed.path(pi.ssh.key) == tmp_path / "id_lab"
    assert testbed.host("server") is server
    with pytest.raises(BadUsageError, match="got 'pi9', expected one of pi1, server"):
        testbed.host("pi9")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('token_file = "lab.token"', "", "missing required field `token_file`"),
        ("threads = 4", "threads = 0", r"hosts\[0\]\.threads: got 0, expected 1 or more"),
        ("threads = 4", 'threads = "4"', r"hosts\[0\]\.threads: got '4': Expected `int`"),
        ("threads = 4", "treads = 4", r"hosts\[0\]: Object contains unknown field `treads`"),
        ('cores = "0-3"', 'cores = "0"', r"hosts\[0\]\.cores: got '0', expected 4 or more"),
        ('cores = "0-3"', 'cores = "x"', r"hosts\[0\]\.cores: got 'x'"),
        ('name = "server"', 'name = "pi1"', r"hosts\[1\]\.name: got pi1, which is hosts\[0\]\.name already"),
        ('name = "server"', 'name = "../x"', r"hosts\[1\]\.name: got '../x', expected letters"),
        ('name = "server"\n', "", r"hosts\[1\]: Object missing required field `name`"),
        ('address = "192.168.7.1"', 'address = "0.0.0.0"', "got '0.0.0.0', expected one that others can dial"),
        ('address = "192.168.7.1"', 'address = "-oProxyCommand=x"', "expected one that others can dial"),
        ("control_port = 7080", "control_port = 70800", "got 70800, expected 1 to 65535"),
        ("control_port = 7080", "data_port = 7070\ndata_address2 = 1", "unknown field `data_address2`"),
        ('data_address = "10.0.0.1"', "data_port = 7080", r"data_port: got 192.168.7.1:7080, which is hosts\[1\]"),
        ('interface = "eth0"', 'interface = "eth0; reboot"', "expected a name such as eth0"),
        ('command = ["paretosim/.venv/bin/hwrun"]', "command = []", "expected words, such as"),
        ('command = ["paretosim/.venv/bin/hwrun"]', 'command = "hwrun"', r"command: got 'hwrun': Expected `array"),
        ('user = "pi"', 'user = "-x"', "expected a plain name"),
        ('user = "pi"', 'password = "secret"', r"hosts\[0\]\.ssh: Object contains unknown field `password`"),
        ("control_port = 7080", 'tls = { cert = "c", key = "k", ca = "a" }', "expected all or none"),
        ('token_file = "lab.token"', 'token_file = "lab.token"\nfolder = "x"', r"folder: belongs under \[\[hosts\]\]"),
        ("[[hosts]]", "[[hosts", "is no TOML"),
    ],
)
def test_what_cannot_be_is_refused_with_file_field_got_and_expected(written, old, new, message):
    assert old in TWO_PIS
    path = written(TWO_PIS.replace(old, new, 1))
    with pytest.raises(BadUsageError, match=message) as caught:
        read_lab(path)
    assert str(caught.value).startswith(str(path))


def test_no_hosts_or_no_file_is_refused(written, tmp_path):
    with pytest.raises(BadUsageError, match=r"hosts: got none, expected a \[\[hosts\]\] table"):
        read_lab(written('token_file = "t"\nhosts = []'))
    with pytest.raises(BadUsageError, match=r"--testbed: .*nowhere.toml cannot be read"):
        read_lab(tmp_path / "nowhere.toml")
