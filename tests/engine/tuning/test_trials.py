"""What a trial's process takes from the driver; test_sweep and test_search run trials by Tune."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from lhs.engine.storage import Storage
from lhs.engine.tracking.tracker import TRACKING_URI
from lhs.engine.tuning.trial_ids import TrialIds
from lhs.engine.tuning.trials import _tracked_as_here, error_path, failures


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


def test_why_trials_failed(tmp_path: Path) -> None:
    storage, folder = Storage(str(tmp_path)), f"{tmp_path}/s"
    storage.make_folder(f"{folder}/trials")
    for number in (2, 4):
        storage.write_json(error_path(folder, number), {"mistake": f"mistake {number}"})
    died = RuntimeError("Traceback\n  File ...\nActorDiedError: killed\n")
    results = {
        1: SimpleNamespace(error=None, metrics={"per_pixel": 0.5}),
        2: SimpleNamespace(error=None, metrics={"failed": 1}),
        3: SimpleNamespace(error=died, metrics=None),
        4: SimpleNamespace(error=died, metrics={"per_pixel": 0.5}),
        5: SimpleNamespace(error=None, metrics={"failed": 1}),
    }
    assert failures(storage, folder, results) == {  # type: ignore[arg-type]
        2: "mistake 2", 3: "ActorDiedError: killed", 4: "mistake 4", 5: "its process died",
    }  # fmt: skip


def test_a_restarted_trial_keeps_its_number_and_a_twin_gets_another() -> None:
    ids = TrialIds({2: {"a": 1}}, [3, 4])
    proposed = (("x", 1), ("x", 1), ("y", 1), ("z", 5))
    assert [ids.assign(one, {"a": value}) for one, value in proposed] == [2, 2, 3, 4]
    assert ids.all() == {"x": 2, "y": 3, "z": 4}
