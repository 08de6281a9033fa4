"""The one k-means function, against scikit-learn called directly and against its own promises.

cuML needs a GPU; where it is missing, the choice of backend is tested, and that the call fits the
signatures in cuML's wheel.
"""

import inspect
import os
import re
import subprocess
import sys
import tomllib
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans, kmeans_plusplus
from threadpoolctl import threadpool_limits

from lhs.errors import UserError
from lhs.hierarchy import kmeans
from lhs.hierarchy.kmeans import (
    NO_GPU,
    CumlProbe,
    fit_kmeans,
    nearest_centres,
    pick_backend,
    probe_cuml,
)


@pytest.fixture
def blobs() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.random((4, 6)) * 10
    return (centres[rng.integers(0, 4, 800)] + rng.normal(0, 0.1, (800, 6))).astype(np.float32)


def test_the_fit_is_scikit_learns(blobs):
    fit = fit_kmeans(blobs, 4, seed=3)
    with threadpool_limits(1):
        peer = KMeans(4, init="k-means++", n_init=1, max_iter=100, random_state=3).fit(blobs)
    np.testing.assert_array_equal(fit.labels, peer.labels_)
    np.testing.assert_array_equal(fit.centres, peer.cluster_centers_)
    assert fit.iterations == peer.n_iter_ < 100
    assert fit.inertia == peer.inertia_
    assert fit.centres.dtype == np.float32
    assert fit.labels.dtype == np.int32


def test_labels_are_the_nearest_centres(blobs):
    fit = fit_kmeans(blobs, 9, seed=0)
    distances = ((blobs[:, None].astype(float) - fit.centres[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(fit.labels, distances.argmin(axis=1))
    assert fit.inertia == pytest.approx(distances.min(axis=1).sum(), rel=1e-4)


def test_the_seed_decides(blobs):
    one, two, other = (fit_kmeans(blobs, 9, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.centres, two.centres)
    assert not np.array_equal(one.centres, other.centres)


@pytest.mark.slow
def test_what_the_process_did_before_does_not_count(tmp_path):
    """A fit of rows without clear clusters depends on the number of threads in its last digits."""
    rows = np.random.default_rng(0).random((3000, 33)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    script = (
        "import sys; before, threads, rows, out = sys.argv[1:]\n"
        "if before: import torch; torch.set_num_threads(int(threads))\n"
        "import numpy as np; from lhs.hierarchy.kmeans import fit_kmeans\n"
        "np.save(out, fit_kmeans(np.load(rows), 5, seed=0).centres)"
    )
    found = []
    for before, threads in (("", "1"), ("", "2"), ("torch", "1"), ("torch", "2")):
        out = tmp_path / f"{before}{threads}.npy"
        subprocess.run(
            [sys.executable, "-c", script, before, threads, tmp_path / "rows.npy", out],
            check=True, env={**os.environ, "OMP_NUM_THREADS": threads},
        )  # fmt: skip
        found.append(np.load(out))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_weights_stand_for_repeated_rows():
    rows = np.array([[0, 0], [0, 1], [8, 8], [9, 8]], np.float32)
    weights = np.array([1, 3, 5, 1])
    folded = fit_kmeans(rows, 2, seed=0, weights=weights)
    repeated = fit_kmeans(rows.repeat(weights, axis=0), 2, seed=0)
    assert folded.inertia == pytest.approx(repeated.inertia)
    assert sorted(map(tuple, folded.centres.round(4).tolist())) == sorted(
        map(tuple, repeated.centres.round(4).tolist())
    )


def test_too_few_iterations_have_not_converged(blobs):
    assert fit_kmeans(blobs, 9, seed=0, max_iterations=2).iterations == 2


def test_fewer_distinct_rows_than_clusters_warn_nobody():
    rows = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_kmeans(rows, 4, seed=0)
    assert fit.inertia == 0


def test_nearest_centres_in_chunks_and_without_empty_columns(monkeypatch):
    monkeypatch.setattr(kmeans, "_ASSIGN_ROWS", 7)
    rng = np.random.default_rng(0)
    rows, centres = rng.random((50, 5)), rng.random((6, 5))
    rows[:, [1, 4]] = 0
    truth = ((rows[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest_centres(rows, centres), truth)
    columns, squares = [0, 2, 3], (centres**2).sum(axis=1)
    narrow = nearest_centres(rows[:, columns], centres[:, columns], squares)
    np.testing.assert_array_equal(narrow, truth)
    assert nearest_centres(np.zeros((1, 2)), np.ones((3, 2))).tolist() == [0]


def test_auto_takes_cuml_where_it_runs():
    runs = CumlProbe("runs", "")
    assert pick_backend("auto", runs) == pick_backend("cuml", runs) == "cuml"
    assert pick_backend("sklearn", runs) == "sklearn"


@pytest.mark.parametrize(
    ("probe", "warned"),
    [
        (NO_GPU, None),
        (CumlProbe("not installed", 'pip install "lhs[gpu]"'), 'pip install "lhs[gpu]"'),
        (CumlProbe("broken", "ImportError: cupy"), "cuML cannot run here: ImportError: cupy"),
    ],
)
def test_where_cuml_does_not_run_auto_takes_scikit_learn(caplog, probe, warned):
    assert pick_backend("auto", probe) == "sklearn"
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ([] if warned is None else [f"clustering by scikit-learn: {warned}"])
    with pytest.raises(UserError, match=r"hierarchy\.backend: found 'cuml'.*allowed") as failed:
        pick_backend("cuml", probe)
    assert probe.reason in str(failed.value)


FAKE_CUPY = """
class runtime:
    def getDeviceCount():
        return 1
class cuda:
    runtime = runtime
"""
TOO_OLD = FAKE_CUPY.replace("return 1", "raise RuntimeError('cudaErrorInsufficientDriver')")
DEPRECATED = "import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=1)\n"


@pytest.mark.parametrize(
    ("cuml", "cupy", "state", "reason"),
    [
        ("", FAKE_CUPY, "runs", ""),
        (DEPRECATED, DEPRECATED + FAKE_CUPY, "runs", ""),
        (None, FAKE_CUPY, "not installed", r'pip install "lhs\[gpu\]"'),
        ("raise ImportError('libcublas.so.13')", FAKE_CUPY, "broken", "ImportError: libcublas"),
        ("", "raise ImportError('no cupy')", "broken", "ImportError: no cupy"),
        ("", TOO_OLD, "broken", "RuntimeError: cudaErrorInsufficientDriver"),
        ("", FAKE_CUPY.replace("return 1", "return 0"), "broken", "cupy sees no GPU"),
    ],
)
def test_a_machine_with_a_gpu_is_asked_for_cuml(monkeypatch, tmp_path, cuml, cupy, state, reason):
    """Stand-ins of both packages, imported as the real ones are, warnings being errors."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("cuml", "cupy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(kmeans, "_has_gpu", lambda: True)
    (tmp_path / "cupy.py").write_text(cupy)
    if cuml is not None:
        (tmp_path / "cuml").mkdir()
        (tmp_path / "cuml" / "__init__.py").write_text(cuml)
        (tmp_path / "cuml" / "cluster.py").touch()
    else:
        monkeypatch.setattr(kmeans.importlib.util, "find_spec", lambda name: None)
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = probe_cuml()
    # Not by monkeypatch, which would put the stand-ins back.
    for name in [name for name in sys.modules if name.split(".")[0] in ("cuml", "cupy")]:
        del sys.modules[name]
    assert found.state == state
    assert re.search(reason, found.reason)
    assert bool(found.reason) == (state != "runs")


def test_without_a_gpu_cuml_is_not_imported(monkeypatch):
    monkeypatch.setattr(kmeans, "_has_gpu", lambda: False)
    monkeypatch.setitem(sys.modules, "cuml", None)
    assert probe_cuml() == NO_GPU


@pytest.mark.parametrize(("answer", "there"), [(0, True), (100, False), (804, True)])
def test_the_driver_is_asked_for_a_gpu(monkeypatch, answer, there):
    """804 is a driver that does not fit: a GPU may be there, and cupy then says what is wrong."""
    driver = types.SimpleNamespace(cuInit=lambda flags: answer)
    monkeypatch.setattr(kmeans.ctypes, "CDLL", lambda name: driver)
    assert kmeans._has_gpu() is there


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(kmeans.ctypes, "CDLL", missing)
    assert not kmeans._has_gpu()


def test_an_unknown_backend_is_refused():
    with pytest.raises(UserError, match=r"hierarchy\.backend: found 'faiss'"):
        pick_backend("faiss")


@pytest.mark.slow
def test_cuml_has_what_is_asked_of_it(monkeypatch, blobs, cuml_source):
    """The call, taken by a stand-in, against the signatures in cuML's own wheel (a download)."""
    asked = {}

    class Recorder:
        cluster_centers_, labels_, n_iter_, inertia_ = np.zeros((4, 6)), np.zeros(800), 3, 1.0

        def __init__(self, *args, **settings):
            asked["__init__"] = (args, settings)

        def fit(self, *args, **settings):
            asked["fit"] = (args, settings)
            return self

    for name in ("cuml", "cuml.cluster"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(KMeans=Recorder))
    monkeypatch.setattr(kmeans, "GPU_ROWS", 800)
    for weights, start in ((np.ones(800), (4, 6)), (None, ())):
        fit_kmeans(blobs, 4, seed=0, weights=weights, backend="cuml")
        for method in ("__init__", "fit"):
            taken = _signature(cuml_source, method)
            args, settings = asked[method]
            taken.bind(None, *args, **settings)
        assert np.shape(asked["__init__"][1]["init"]) == start
    assert asked["__init__"][1]["init"] == "k-means++"
    assert '"k-means++"' in cuml_source or "'k-means++'" in cuml_source
    results = {name for name in vars(Recorder) if name.endswith("_") and name[0] != "_"}
    assert all(re.search(rf"\b{name}\b", cuml_source) for name in results)


@pytest.fixture(scope="module")
def cuml_source(tmp_path_factory) -> str:
    """Of its k-means, from the wheel of the oldest release that the `gpu` extra takes."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    [wanted] = project["project"]["optional-dependencies"]["gpu"]
    folder = tmp_path_factory.mktemp("cuml")
    got = subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder,
            "--only-binary=:all:", "--platform", "manylinux_2_28_x86_64",
            f"{wanted.replace('>=', '==')}.*",
        ],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if got.returncode:
        pytest.skip(f"cuML's wheel can't be had here: {got.stderr.strip().splitlines()[-1]}")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        return files.read("cuml/cluster/kmeans.pyx").decode()


def _signature(source: str, method: str) -> inspect.Signature:
    """Of a method of `KMeans`, whose Cython source is Python up to the body."""
    [head] = re.findall(
        rf"^    (def {method}\(.*?\)(?: -> [^:]*)?:)", source, re.DOTALL | re.MULTILINE
    )
    made: dict[str, object] = {}
    exec(f"{head} ...", made)
    return inspect.signature(made[method])


def test_few_rows_are_left_to_scikit_learn(monkeypatch, blobs):
    """On the `cuml` backend too; enough of them go to the GPU's functions."""
    monkeypatch.setattr(kmeans, "GPU_ROWS", 801)
    ours, peer = (fit_kmeans(blobs, 4, seed=0, backend=backend) for backend in ("cuml", "sklearn"))
    np.testing.assert_array_equal(ours.centres, peer.centres)
    asked = []

    def recorded(name, cpu):
        def stand_in(*given):
            asked.append(name)
            return cpu(*given)

        monkeypatch.setattr(kmeans, name, stand_in)

    recorded("_fit_cuml", kmeans._fit_sklearn)
    recorded("_assign_cupy", kmeans._assign_numpy)
    nearest_centres(blobs, ours.centres, backend="cuml")
    assert asked == []
    monkeypatch.setattr(kmeans, "GPU_ROWS", 800)
    fit_kmeans(blobs, 4, seed=0, backend="sklearn")
    nearest_centres(blobs, ours.centres)
    assert asked == []
    monkeypatch.setattr(kmeans, "_ASSIGN_ROWS", 300)
    fit_kmeans(blobs, 4, seed=0, backend="cuml")
    labels = nearest_centres(blobs, ours.centres, backend="cuml")
    assert asked == ["_fit_cuml"] + ["_assign_cupy"] * 3
    np.testing.assert_array_equal(labels, ours.labels)


def test_assignment_by_cupy_is_numpys(monkeypatch, blobs):
    """With a cupy that computes by numpy: the steps, not the device."""
    stand_in = types.SimpleNamespace(asarray=np.asarray, asnumpy=np.asarray, float64=np.float64)
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    monkeypatch.setattr(kmeans, "GPU_ROWS", 1)
    centres = blobs[:9]
    found = nearest_centres(blobs, centres, backend="cuml")
    np.testing.assert_array_equal(found, nearest_centres(blobs, centres))


class CuvsKMeans:
    """The loop of cuML's library in numpy: it ends by how far the centres moved, not relative to
    the variance, or by the share by which inertia fell, and its own start knows no weights."""

    def __init__(self, *, n_clusters, init, n_init, max_iter, tol, random_state, output_type):
        assert n_init == 1
        assert output_type == "numpy"
        assert tol > 0
        self.asked = n_clusters, init, max_iter, tol, random_state

    def fit(self, rows, sample_weight=None):
        clusters, start, most, tol, seed = self.asked
        if isinstance(start, str):
            start, _ = kmeans_plusplus(rows, clusters, random_state=seed)
        weights = np.ones(len(rows)) if sample_weight is None else sample_weight
        weights = weights * len(rows) / weights.sum()
        centres, prior = np.array(start, np.float64), np.inf
        for count in range(1, most + 1):
            squares = ((rows[:, None] - centres) ** 2).sum(2)
            labels, inertia = squares.argmin(1), float((weights * squares.min(1)).sum())
            before = centres.copy()
            for cluster in range(clusters):
                own = labels == cluster
                if own.any():
                    centres[cluster] = np.average(rows[own], axis=0, weights=weights[own])
            fell_little = count > 1 and inertia / prior > 1 - tol
            if fell_little or ((centres - before) ** 2).sum() < tol:
                break
            prior = inertia
        squares = ((rows[:, None] - centres) ** 2).sum(2)
        self.cluster_centers_, self.labels_ = centres.astype(np.float32), squares.argmin(1)
        self.n_iter_, self.inertia_ = count, float((weights * squares.min(1)).sum())
        return self


@pytest.mark.parametrize("weighted", [False, True])
def test_cuml_ends_a_fit_where_scikit_learn_does(monkeypatch, weighted):
    """On a ring inertia falls little from one iteration to the next, and goes on to fall."""
    for name in ("cuml", "cuml.cluster"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(KMeans=CuvsKMeans))
    monkeypatch.setattr(kmeans, "GPU_ROWS", 1)
    draw = np.random.default_rng(0)
    turn = draw.uniform(0, 2 * np.pi, 4000)
    ring = [0.05 * np.cos(turn), 0.04 * np.sin(turn), draw.normal(0, 0.002, 4000)]
    rows = np.stack(ring, axis=1).astype(np.float32)
    weights = np.where(np.arange(len(rows)) % 400, 1, 500) if weighted else None
    for seed in range(3):
        ours, peer = (
            fit_kmeans(rows, 3, seed=seed, weights=weights, backend=backend)
            for backend in ("cuml", "sklearn")
        )
        assert ours.iterations == pytest.approx(peer.iterations, abs=2), seed
        assert (ours.labels != peer.labels).mean() < 0.01, seed


CUML = probe_cuml()


@pytest.mark.skipif(CUML.state != "runs", reason=f"cuML does not run: {CUML.reason}")
def test_cuml_fits_as_well_as_scikit_learn(monkeypatch, blobs):
    monkeypatch.setattr(kmeans, "GPU_ROWS", 1)
    ours, peer = (fit_kmeans(blobs, 4, seed=0, backend=b) for b in ("cuml", "sklearn"))
    assert ours.inertia == pytest.approx(peer.inertia, rel=0.05)
    assert sorted(np.bincount(ours.labels)) == sorted(np.bincount(peer.labels))
    assert ours.iterations < 100


@pytest.mark.skipif(CUML.state != "runs", reason=f"cuML does not run: {CUML.reason}")
def test_a_gpu_assigns_as_a_cpu_does(monkeypatch):
    """Also where two centres are equally near: the lower id."""
    monkeypatch.setattr(kmeans, "GPU_ROWS", 1)
    monkeypatch.setattr(kmeans, "_ASSIGN_ROWS", 3000)
    rng = np.random.default_rng(0)
    rows, centres = rng.random((10_000, 33)).astype(np.float32), rng.random((15, 33))
    centres[9] = centres[4]
    found = nearest_centres(rows, centres, backend="cuml")
    np.testing.assert_array_equal(found, nearest_centres(rows, centres))
    assert 4 in found
    assert 9 not in found
