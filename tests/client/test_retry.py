from __future__ import annotations

import pytest

import bridle
from bridle.errors_by_reason import BY_REASON
from bridle.retry import Backoff, RetryPolicy, may_retry


def test_broken_connections_and_silence_are_tried_again() -> None:
    assert may_retry(bridle.ConnectionLostError("gone"))
    assert may_retry(bridle.DeadlineExceededError("late"))
    assert not may_retry(bridle.BridleError("what", code=bridle.Code.INTERNAL))


@pytest.mark.parametrize("reason", sorted(BY_REASON))
def test_of_the_reasons_only_those_are_tried_again_that_did_nothing_and_may_pass(
    reason: str,
) -> None:
    error = BY_REASON[reason]("text")
    assert may_retry(error) == (reason in {"SHUTTING_DOWN", "RATE_LIMITED", "NO_HOST"})


def test_waits_double_up_to_the_most_and_never_fall_below_half() -> None:
    shortest = Backoff(first=0.1, most=1.0, chance=lambda: 0.0)
    longest = Backoff(first=0.1, most=1.0, chance=lambda: 1.0)
    assert [longest.delay(n) for n in (1, 2, 3, 4, 5, 500)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert [shortest.delay(n) for n in (1, 2)] == [0.05, 0.1]


def test_a_wished_delay_is_kept_and_spread() -> None:
    error = bridle.RateLimitedError("slow down", retry_after=3.0)
    assert Backoff(chance=lambda: 0.0).delay(1, error) == 3.0
    assert Backoff(chance=lambda: 1.0).delay(1, error) == pytest.approx(3.3)


def test_the_last_attempt_and_a_delay_beyond_the_deadline_give_up() -> None:
    policy = RetryPolicy(attempts=3, backoff=Backoff(chance=lambda: 0.0))
    lost = bridle.ConnectionLostError("gone")
    assert policy.next_delay(lost, 2, left=10.0) is not None
    assert policy.next_delay(lost, 3, left=10.0) is None
    assert policy.next_delay(lost, 1, left=0.01) is None
    assert policy.next_delay(bridle.SlugTakenError("x"), 1, left=10.0) is None


def test_a_control_that_has_answered_is_waited_for_as_long_as_the_call_may_take() -> None:
    policy = RetryPolicy(attempts=3, backoff=Backoff(chance=lambda: 0.0))
    lost = bridle.ConnectionLostError("gone")
    assert policy.next_delay(lost, 30, left=10.0, known=True) is not None
    assert policy.next_delay(lost, 30, left=0.01, known=True) is None
    # What it says itself comes of no restart.
    limited = bridle.RateLimitedError("slow down")
    assert policy.next_delay(limited, 3, left=10.0, known=True) is None
    assert policy.next_delay(bridle.SlugTakenError("x"), 1, left=10.0, known=True) is None
