"""What workers over sockets have in common: the group that backend rpc needs."""

from types import SimpleNamespace

import pytest

from hwrun import workers as shared
from hwrun.errors import HwrunError
from hwrun.testbed import DataPath
from hwrun.wire.admission import Credentials
from hwrun.workers import SocketWorkers


class Group(SocketWorkers):
    """Two workers that are asked to form groups, and the clock that they see."""

    def __init__(self, monkeypatch):
        super().__init__(("A", "B"), Credentials())
        self.asked, self.now_s, self.pids = 0, 0.0, {"A": 1, "B": 2}
        monkeypatch.setattr(shared, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        monkeypatch.setattr(shared, "join_group", self.join)

    def join(self, members, rendezvous):
        self.asked += 1
        raise HwrunError("B cannot join")

    def client(self, host):
        return SimpleNamespace(welcome=SimpleNamespace(pid=self.pids[host]))

    def _meeting(self, path, hosts):
        return hosts, "tcp://127.0.0.1:1"

    def route(self, path):
        return None

    def _reach(self):
        pass

    def _leave(self):
        pass


def test_a_group_that_did_not_come_together_is_not_tried_again_for_a_while_unless_a_worker_is_another(monkeypatch):
    group = Group(monkeypatch)
    path = DataPath(("A", "B"), (None,), "B", None, backend="rpc")
    for now_s, pid, asked in ((0.0, 2, 1), (100.0, 2, 1), (200.0, 2, 2), (201.0, 2, 2), (202.0, 3, 3)):
        group.now_s, group.pids["B"] = now_s, pid
        with pytest.raises(HwrunError, match="B cannot join"):
            group.ends(path)
        assert group.asked == asked
