"""What is said of an upload that fails: the reason, and never the token."""

import pytest

from xoron_core.export.upload import RefusedError, Repository, is_final, reason_of, with_retries

PLAIN = "a-token-of-another-form"
REPOSITORY = Repository("someone/tiny", private=True, token=PLAIN)


def test_a_reason_is_one_line_without_tokens() -> None:
    error = OSError(f"no route\n\n  sent: Bearer {PLAIN}\nbefore: hf_abcdefghijklmnop")
    assert reason_of(error, REPOSITORY) == "no route; sent: Bearer [redacted]; before: [redacted]"
    assert reason_of(TimeoutError(), REPOSITORY) == "TimeoutError"
    assert PLAIN not in reason_of(OSError("x" * 390 + PLAIN), REPOSITORY)
    assert PLAIN not in repr(REPOSITORY)


def test_only_what_may_go_away_is_tried_again() -> None:
    tried: list[int] = []

    def call(error: Exception, times: int) -> str:
        tried.append(1)
        if len(tried) <= times:
            raise error
        return "there"

    assert with_retries(lambda: call(ConnectionError("gone"), 2), (0.0, 0.0)) == "there" and len(tried) == 3
    tried.clear()
    with pytest.raises(RefusedError):
        with_retries(lambda: call(RefusedError("no token"), 1), (0.0, 0.0))
    assert len(tried) == 1 and is_final(ValueError("a name with blanks")) and not is_final(OSError("gone"))
