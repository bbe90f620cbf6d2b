"""Several who want the same thing get it one at a time, in the order in which they came."""

import threading
import time

import pytest

from hwrun.stages.turns import Turns


def test_who_let_go_and_comes_again_stands_behind_those_who_waited():
    turns = Turns()
    taken: list[str] = []
    first_has_it, all_wait = threading.Event(), threading.Event()

    def first():
        with turns.taken():
            first_has_it.set()
            assert all_wait.wait(60)
        with turns.taken():  # at once: a Lock would be had before any that waits has woken
            taken.append("first again")

    def waiting(name):
        with turns.taken():
            taken.append(name)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert first_has_it.wait(60)
    for number in (1, 2, 3):
        threads.append(threading.Thread(target=waiting, args=(f"waiting {number}",)))
        threads[-1].start()
        while turns._next <= number:
            time.sleep(0.001)
    all_wait.set()
    for thread in threads:
        thread.join(60)
    assert taken == ["waiting 1", "waiting 2", "waiting 3", "first again"]


def test_no_two_have_it_at_a_time():
    turns = Turns()
    inside, most, done = 0, 0, []

    def work():
        nonlocal inside, most
        for _ in range(200):
            with turns.taken():
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1
        done.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 4
    assert most == 1


def test_a_turn_that_ends_in_an_error_ends():
    turns = Turns()
    with pytest.raises(RuntimeError), turns.taken():
        raise RuntimeError
    with turns.taken():
        pass
