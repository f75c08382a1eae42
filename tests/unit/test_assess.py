from __future__ import annotations

from tests.virtual import started


def test_another_server_than_before_is_noticed_by_its_scrapes() -> None:
    world = started()
    world.want("http://v2")
    world.settle()
    world.live(30)
    before = world.rollout.status.evidence
    assert before
    assert before.counted_until
    assert before.continuous_since is None
    for taken in world.samples.values():
        taken[:] = [(time + 1.7, value) for time, value in taken[:-1]]
    world.live(20)
    after = world.rollout.status.evidence
    assert after
    assert after.counted_until
    assert after.continuous_since == before.counted_until
    assert after.counted_until > before.counted_until
