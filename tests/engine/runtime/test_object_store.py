"""Results on S3: a real server of its protocol (moto's), a run whose stages lie there alone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lhs.engine.storage import Storage
from tests.engine.conftest import isolated
from tests.serving import SECRETS, object_store

SMALL = {
    "data.synthetic.train": 8, "data.synthetic.test": 4, "data.synthetic.height": 64,
    "data.synthetic.width": 80, "context.variants": 1, "context.superpixel_size": 100,
    "hierarchy.n_star": 10, "train.max_steps": 2, "report.scenes": 2, "report.baseline": "none",
}  # fmt: skip
BUCKET = "bucket"


@pytest.fixture(scope="module")
def query(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What stands behind a URI for this server instead of Amazon's, and the secrets around it."""
    log = tmp_path_factory.mktemp("store") / "log"
    with pytest.MonkeyPatch.context() as patch, object_store(log, BUCKET) as store:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        yield store.query


@pytest.mark.thorough
def test_files_and_folders(query: str, tmp_path: Path) -> None:
    storage = Storage(f"s3://{BUCKET}/files{query}")
    assert storage.root == f"{BUCKET}/files"
    storage.write_json(storage.path("a", "b", "x.json"), {"one": 1})
    storage.write(storage.path("a", "y"), b"two")
    storage.move(storage.path("a"), storage.path("c"))
    assert not storage.exists(storage.path("a"))
    assert storage.list(storage.path("c")) == ["b", "y"]
    assert storage.read_json(storage.path("c", "b", "x.json")) == {"one": 1}
    with storage.as_local(storage.path("c")) as folder:
        assert (folder / "y").read_bytes() == b"two"
        storage.put_folder(folder, storage.path("d"))
    assert storage.read(storage.path("d", "y")) == b"two"
    storage.move(storage.path("d", "y"), storage.path("d", "z"))
    assert storage.list(storage.path("d")) == ["b", "z"]
    storage.delete(storage.path("c"))
    assert not storage.exists(storage.path("c"))
    assert storage.address(storage.path("d")) == f"s3://{BUCKET}/files/d"


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_lies_on_the_store_alone_and_is_found_there_again(query: str, tmp_path: Path) -> None:
    uri = f"s3://{BUCKET}/results{query}"
    home = tmp_path / "home"
    home.mkdir()
    environment = isolated(HOME=str(home), **SECRETS)
    command = [sys.executable, "-m", "lhs.run", "run", "demo", "--set", f"storage={uri}"]
    for key, value in SMALL.items():
        command += ["--set", f"{key}={value}"]
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, text=True, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]
        outputs.append(done.stdout)
    for stage in ("samples", "histograms", "hierarchy", "model", "evaluation"):
        assert f"{stage}: made" in outputs[0]
        assert f"{stage}: reused" in outputs[1]
        assert f"{stage}: made" not in outputs[1]
    storage = Storage(uri)
    (key,) = storage.list(storage.path("stages", "model"))
    assert storage.exists(storage.path("stages", "model", key, "_SUCCESS.json"))
    # Of the stages nothing lies on this machine; MLflow's store is here while no server is named.
    assert not [path for path in home.rglob("*") if path.name in ("stages", "_SUCCESS.json")]
