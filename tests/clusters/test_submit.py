"""`ray up` and `ray submit` with clusters/local.yaml, over a real sshd.

    pytest -m cluster

Not among the tests that run by default: the Ray it starts is one that any other program on this
machine would find and join.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.clusters.host import SSHD, Host, host, lend_packages, user

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (Path(SSHD).exists() and shutil.which("rsync")), reason="needs sshd and rsync"
    ),
]

ROOT = Path(__file__).parents[2]
SMALL = [
    "--set", "data.synthetic.train=8", "--set", "data.synthetic.test=4", "--set",
    "context.variants=1", "--set", "train.max_steps=2", "--set", "hierarchy.n_star=20", "--set",
    "report.scenes=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    scratch = tmp_path_factory.mktemp("host")
    with host(scratch) as one:
        lend_packages(one.home)
        yield one


@pytest.fixture(scope="module")
def environment(there: Host, tmp_path_factory) -> dict[str, str]:
    """Of the person at the other end: another home, with Ray's token in it."""
    mine = tmp_path_factory.mktemp("mine")
    (mine / ".ray").mkdir()
    (mine / ".ray" / "auth_token").write_text("a" * 64)
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
        "HOME": str(mine),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_UP_enable_autoscaler_v2": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@pytest.fixture(scope="module")
def cluster(there: Host, environment, tmp_path_factory):
    """The project's own YAML; only the lines marked HERE are others, and ssh's port."""
    config = yaml.safe_load((ROOT / "clusters" / "local.yaml").read_text())
    config["provider"]["head_ip"] = "127.0.0.1"
    config["auth"] = {
        "ssh_user": user(), "ssh_private_key": str(there.key), "ssh_proxy_command": there.proxy,
    }  # fmt: skip
    path = tmp_path_factory.mktemp("cluster") / "local.yaml"
    path.write_text(yaml.safe_dump(config))
    run(["ray", "up", "--yes", "--no-config-cache", path], environment)
    yield path
    run(["ray", "exec", path, "pkill -f '[g]cs_server.*gcs_server_port=6379' || true"], environment)


def run(command: list[object], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, env=environment, text=True, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_a_run_is_submitted_over_ssh(cluster, there, environment) -> None:
    told = run(
        ["ray", "submit", cluster, "lhs/run.py", "--", "run", "demo", *SMALL,
         "--set", "storage=results"],
        environment,
    )  # fmt: skip
    assert "mlflow ui" in told
    scored = list((there.home / "results" / "stages" / "evaluation").glob("*/_SUCCESS.json"))
    # The baseline's and the hierarchy's.
    assert [json.loads(path.read_text())["facts"]["images"] for path in scored] == [4, 4]
    # What is large or private stayed behind.
    assert (there.home / "lhs-project" / "pyproject.toml").is_file()
    assert not (there.home / "lhs-project" / ".git").exists()
    assert not (there.home / "lhs-project" / ".venv").exists()
