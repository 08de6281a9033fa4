"""`ray up`, `ray submit` and `ray job submit` with clusters/local.yaml, over a real sshd.

    pytest -m cluster

Not among the tests that run by default: the Ray it starts is one that any other program on this
machine would find and join.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.clusters.host import (
    SSHD,
    Host,
    can_make_hosts,
    host,
    lend_packages,
    two_hosts,
    user,
)

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
def environment(tmp_path_factory) -> dict[str, str]:
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
    end_ray(there)


def end_ray(there: Host) -> None:
    """End the Ray that was started there, and no other: `ray stop` would end them all."""
    everyone = {
        process: process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])
    }
    sessions = {
        word.split("=", 1)[1]
        for words in everyone.values()
        for word in words
        if words and words[0].startswith(str(there.home)) and word.startswith("--session-dir=")
    }
    assert len(sessions) == 1
    (session,) = sessions
    for process, words in everyone.items():
        if any(session in word for word in words):
            process.kill()
    # Where `ray start` notes the Ray that others on this machine join.
    Path("/tmp/ray/ray_current_cluster").unlink()


def run(command: list[object], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, env=environment, text=True, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_a_run_is_submitted_over_ssh(cluster, there, environment) -> None:
    printed = run(
        ["ray", "submit", cluster, "lhs/run.py", "--", "run", "demo", *SMALL,
         "--set", "storage=results"],
        environment,
    )  # fmt: skip
    assert "mlflow ui" in printed
    scored = list((there.home / "results" / "stages" / "evaluation").glob("*/_SUCCESS.json"))
    # The baseline's and the hierarchy's.
    assert [json.loads(path.read_text())["facts"]["images"] for path in scored] == [4, 4]
    # What is large or private stayed behind.
    assert (there.home / "lhs-project" / "pyproject.toml").is_file()
    assert not (there.home / "lhs-project" / ".git").exists()
    assert not (there.home / "lhs-project" / ".venv").exists()


def test_a_job_gets_the_folder_without_what_is_large_or_private(
    cluster, there, environment
) -> None:
    results = there.home / "of-the-job"
    printed = run(
        ["ray", "job", "submit", "--address", "http://127.0.0.1:8265", "--working-dir", ".", "--",
         "bash", "-c", shlex.join(["ls", "-A"]) + " && "
         + shlex.join(["lhs", "run", "demo", *SMALL, "--set", f"storage={results}"])],
        environment | {"RAY_AUTH_MODE": "token"},
    )  # fmt: skip
    assert "pyproject.toml" in printed
    assert not {".git", ".venv", ".mypy_cache"} & set(printed.split())
    assert len(list((results / "stages" / "evaluation").glob("*/_SUCCESS.json"))) == 2


@pytest.mark.skipif(not can_make_hosts(), reason="only root can make network namespaces")
def test_a_run_is_submitted_to_two_hosts(environment, tmp_path: Path) -> None:
    """The second one's Ray is started by the head's autoscaler, over ssh. The results' folder is
    seen by both, as over NFS."""
    with two_hosts(tmp_path) as (head, worker):
        for one in (head, worker):
            lend_packages(one.home)
        config = yaml.safe_load((ROOT / "clusters" / "local.yaml").read_text())
        config["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
        config["auth"] = {"ssh_user": user(), "ssh_private_key": str(head.key)}
        # A state of its own: Ray's client keeps it in /tmp under this name.
        config["cluster_name"] = "lhs-two"
        path = tmp_path / "local.yaml"
        path.write_text(yaml.safe_dump(config))
        run(["ray", "up", "--yes", "--no-config-cache", path], environment)
        limit = time.monotonic() + 400
        both = f"/{2 * len(os.sched_getaffinity(0))}.0 CPU"
        while both not in (printed := run(["ray", "exec", path, "ray status"], environment)):
            assert time.monotonic() < limit, printed
            time.sleep(5)
        results = tmp_path / "results"
        printed = run(
            ["ray", "submit", path, "lhs/run.py", "--", "run", "demo", *SMALL,
             "--set", f"storage={results}"],
            environment,
        )  # fmt: skip
        assert "cluster: 2 nodes" in printed
        assert "mlflow ui" in printed
        assert len(list((results / "stages" / "evaluation").glob("*/_SUCCESS.json"))) == 2
        for one in (head, worker):
            assert len(list((one.home.parent / "ray").glob("session_2*"))) == 1
