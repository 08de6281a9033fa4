"""The cluster files: Ray's own schema, the pinned versions, and nothing open to the world."""

import copy
import ipaddress
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import torch
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clusters"
RAY_FILES = ("local.yaml", "aws.yaml", "gcp.yaml")
KUBERAY_FILES = ("kuberay-job.yaml", "kuberay-cluster.yaml")
KUBERNETES = "1.30"


KUBERAY = json.loads((Path(__file__).parent / "kuberay.json").read_text())["kinds"]
"""The schemas of KubeRay's own CRDs, reduced: the file says of which version, and how."""


def content(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def ray_version() -> str:
    lock = (ROOT / "requirements.lock").read_text()
    found = re.search(r"^ray(?:\[.*\])?==(\S+)", lock, re.MULTILINE)
    assert found
    return found[1]


def cuda() -> str:
    """Of torch as installed from the lock file, which must be cuML's too."""
    assert torch.version.cuda
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (cuml,) = project["project"]["optional-dependencies"]["gpu"]
    assert re.match(r"cuml-cu(\d+)", cuml)[1] == torch.version.cuda.partition(".")[0]
    return torch.version.cuda.replace(".", "")


def images(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        here = [tree["image"]] if isinstance(tree.get("image"), str) else []
        return here + [image for value in tree.values() for image in images(value)]
    return [image for value in tree for image in images(value)] if isinstance(tree, list) else []


@pytest.mark.parametrize("name", RAY_FILES)
def test_ray_takes_the_file(name: str) -> None:
    validate_config(prepare_config(content(name)))


def test_a_wrong_file_is_seen() -> None:
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(content("aws.yaml") | {"max_worker": 3}))


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_the_image_has_ray_python_and_cuda_as_pinned(name: str) -> None:
    """Ray's `-gpu` images are for CUDA 12, and bring cupy for it."""
    assert images(content(name)) == [f"rayproject/ray:{ray_version()}-py311-cu{cuda()}"]


def test_the_dockerfile_starts_from_the_same_image() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{ray_version()}-py311-cu{cuda()}\n" in text
    for line in re.findall(r"^COPY \S+ (.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in line.split())


@pytest.mark.parametrize("name", RAY_FILES)
def test_every_node_gets_the_locked_packages_and_this_one(name: str) -> None:
    config = content(name)
    assert config["file_mounts"]["~/lhs-project"] == "."
    assert ".git" in config["rsync_exclude"]
    setup = "\n".join(config["setup_commands"])
    for part in ("requirements.lock", "weights.lock", "~/lhs-project\n", "~/lhs-project[gpu]"):
        assert part in setup
    # A driver that is too old ends the set-up, with torch's reason, after the packages are there.
    assert setup.index("torch.cuda.init()") > setup.index("~/lhs-project[gpu]")
    # Ray's default would end every Ray of the machine.
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert not any("ray stop" in command for command in starts)


@pytest.mark.parametrize("name", RAY_FILES)
def test_nothing_is_open_to_the_world(name: str) -> None:
    config = content(name)
    (start,) = config["head_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in start
    assert "RAY_AUTH_MODE=token" in json.dumps(config)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for rule in config["provider"].get("security_group", {}).get("IpPermissions", []):
        assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
        for source in rule["IpRanges"]:
            assert ipaddress.ip_network(source["CidrIp"]).num_addresses == 1


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_a_gpu_is_there_from_the_start_and_not_in_the_head(name: str) -> None:
    types = content(name)["available_node_types"]
    # The preflight counts what is there when a run begins: without a GPU none would ever come.
    assert 1 == types["gpu"]["min_workers"] < types["gpu"]["max_workers"]
    assert "GPU" not in types["head"]["resources"]


DRIVER = 580
"""The oldest branch of NVIDIA's driver for CUDA 13 (release notes of CUDA 13.0)."""


def test_gpu_nodes_have_a_driver_for_cuda_13() -> None:
    assert cuda().startswith("13")
    (disk,) = content("gcp.yaml")["available_node_types"]["gpu"]["node_config"]["disks"]
    family = disk["initializeParams"]["sourceImage"]
    assert int(re.search(r"-nvidia-(\d+)$", family)[1]) >= DRIVER
    for kind in content("aws.yaml")["available_node_types"].values():
        # Without one Ray takes its default, whose driver is of 2023.
        assert kind["node_config"]["ImageId"].startswith("ami-")
    assert f"**driver, {DRIVER} or newer**" in (FOLDER / "README.md").read_text()


def cluster_of(whole: dict[str, Any]) -> dict[str, Any]:
    return whole["spec"] if whole["kind"] == "RayCluster" else whole["spec"]["rayClusterSpec"]


def validate_kuberay(whole: dict[str, Any]) -> None:
    """KubeRay's own fields, and the pods by Kubernetes' own schema."""
    jsonschema.validate(whole, KUBERAY[whole["kind"]])
    spec = cluster_of(whole)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": whole["metadata"]}
        kubernetes_validate.validate(pod | group["template"], KUBERNETES, strict=True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec.update(autoscaling=True),
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda spec: spec["workerGroupSpecs"][0].update(minReplica=1),
        lambda spec: spec["headGroupSpec"]["template"]["spec"].update(container=[]),
        lambda spec: spec["workerGroupSpecs"][0]["template"]["spec"]["volumes"][0].pop("name"),
    ],
)
@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_a_wrong_kuberay_file_is_seen(name: str, spoil: Any) -> None:
    whole = copy.deepcopy(content(name))
    spoil(cluster_of(whole))
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        validate_kuberay(whole)


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_kuberay_file(name: str) -> None:
    whole = content(name)
    validate_kuberay(whole)
    spec = cluster_of(whole)
    assert spec["rayVersion"] == ray_version()
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    (group,) = spec["workerGroupSpecs"]
    assert 1 == group["minReplicas"] == group["replicas"] < group["maxReplicas"]
    worker = group["template"]["spec"]["containers"][0]
    assert set(images(whole)) == {"lhs:0.1.0"}
    for container in (head, worker):
        names = {entry["name"] for entry in container["env"]}
        assert {"LHS_STORAGE", "MLFLOW_TRACKING_URI", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} <= names
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert "NodePort" not in str(whole)
    assert "LoadBalancer" not in str(whole)


def test_every_file_is_listed() -> None:
    page = (FOLDER / "README.md").read_text()
    for path in FOLDER.iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in page
