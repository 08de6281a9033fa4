"""What a trial's process takes from the driver; test_sweep and test_search run trials by Tune."""

from __future__ import annotations

import os

import pytest

from lhs.engine.tracking.tracker import TRACKING_URI
from lhs.engine.tuning.trials import _tracked_as_here


@pytest.mark.parametrize(
    ("here", "there", "used"),
    [("http://server", None, "http://server"), ("http://a", "http://b", "http://a"),
     (None, "http://b", "http://b"), (None, None, None)],
)  # fmt: skip
def test_a_trial_is_tracked_where_the_driver_says(
    here: str | None, there: str | None, used: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a cluster that was started without the variable kept runs in the storage."""
    # So that what the trial's process sets is taken back.
    monkeypatch.setenv(TRACKING_URI, there or "")
    if there is None:
        monkeypatch.delenv(TRACKING_URI)
    seen: list[str | None] = []
    _tracked_as_here({}, lambda _: seen.append(os.environ.get(TRACKING_URI)), here)
    assert seen == [used]
