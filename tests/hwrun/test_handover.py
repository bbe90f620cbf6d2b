"""The queue between a stage's threads: order, back-pressure, and that closing wakes whoever waits."""

import threading
import time

import pytest

from hwrun.wire.handover import Handover, HandoverClosed


def in_thread(function, *arguments):
    """Start it; the list gets what it returned, or that it was closed."""
    outcome = []

    def call():
        try:
            outcome.append(function(*arguments))
        except HandoverClosed:
            outcome.append("closed")

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread, outcome


def ended(thread):
    thread.join(timeout=5)
    return not thread.is_alive()


@pytest.mark.parametrize("depth", [1, 3, None])
def test_items_arrive_once_and_in_order_whatever_the_depth(depth):
    handover = Handover(depth)
    taken = []
    thread, _ = in_thread(lambda: taken.extend(handover.get() for _ in range(500)))
    for number in range(500):
        handover.put(number)
    assert ended(thread)
    assert taken == list(range(500))


def test_a_full_one_holds_whoever_puts_until_an_item_is_taken():
    handover = Handover(2)
    handover.put("a")
    handover.put("b")
    thread, outcome = in_thread(handover.put, "c")
    time.sleep(0.05)
    assert outcome == []
    assert handover.get() == "a"
    assert ended(thread)
    assert [handover.get(), handover.get()] == ["b", "c"]


def test_without_a_bound_nobody_waits_to_put():
    handover = Handover(None)
    for number in range(10_000):
        handover.put(number)
    assert handover.get() == 0


@pytest.mark.parametrize("depth", [1, None])
def test_closing_wakes_everybody_who_waits_for_an_item(depth):
    handover = Handover(depth)
    waiting = [in_thread(handover.get) for _ in range(3)]
    time.sleep(0.05)
    handover.close()
    assert all(ended(thread) for thread, _ in waiting)
    assert [outcome for _, outcome in waiting] == [["closed"]] * 3


def test_closing_wakes_everybody_who_waits_for_room():
    handover = Handover(1)
    handover.put(0)
    waiting = [in_thread(handover.put, number) for number in range(3)]
    time.sleep(0.05)
    handover.close()
    assert all(ended(thread) for thread, _ in waiting)
    assert [outcome for _, outcome in waiting] == [["closed"]] * 3


def test_what_waits_is_dropped_by_closing_which_may_happen_twice():
    handover = Handover(2)
    handover.put("lost")
    handover.close()
    handover.close()
    for _ in range(3):
        with pytest.raises(HandoverClosed):
            handover.get()
        with pytest.raises(HandoverClosed):
            handover.put("late")
