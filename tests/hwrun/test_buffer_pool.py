"""Receive buffers are used again, and no more of them kept than asked."""

from hwrun.wire.buffer_pool import BufferPool


def test_no_more_buffers_are_kept_than_were_asked_for_whatever_their_sizes():
    pool = BufferPool(kept=2)
    buffers = [pool.take(size) for size in (100, 200, 300)]
    for buffer in buffers:
        pool.give(buffer)
    assert [pool.take(size) is buffers[place] for place, size in ((0, 100), (1, 200), (2, 300))] == [False, True, True]
