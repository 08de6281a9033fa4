"""Small changes of the code that no test once noticed, each made alone in a copy: a test must fail.

    python -m tests.mutations             # all of them; some minutes each dozen
    python -m tests.mutations alpha       # those whose name has the word

A new stage, loss or setting adds its own: the change that would lose it silently, and the tests
that notice. Where a line has moved, the patch no longer matches, which is an error of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
REACH = "tests/training/test_settings_reach_the_loop.py"
OPTIONS = "tests/test_command_options.py"
WORKER = "tests/engine/runtime/test_worker.py"


@dataclass(frozen=True)
class Mutation:
    """A change of one line.

    Attributes
    ----------
    name
        What is lost.
    file
        Below `lhs/`.
    old, new
        Text that occurs once in the file, and what takes its place.
    tests
        Those that should notice: files, or single tests.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, root: Path) -> str:
        """The file with the change.

        Raises
        ------
        ValueError
            If the text is not there, or more than once.
        """
        text = (root / "lhs" / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has {text.count(self.old)} x {self.old!r}")
        return text.replace(self.old, self.new)


MUTATIONS = (
    Mutation(
        "alpha is ignored", "training/trainer.py",
        "common = self.config.alpha,", "common = 1.0,", (REACH,),
    ),
    Mutation(
        "only the last part of a step gives a gradient", "training/trainer.py",
        "loss += self.forward_backward_step(batch, count)",
        "self.optimizer.zero_grad(); loss += self.forward_backward_step(batch, count)", (REACH,),
    ),
    Mutation(
        "micro_batch is ignored", "training/trainer.py",
        "most = None if has_batch_norm(self.model) else self.micro_batch", "most = None", (REACH,),
    ),
    Mutation(
        "the precision does not reach the network", "training/trainer.py",
        "with arithmetic(self.precision, self.device):", 'with arithmetic("float32", self.device):',
        (REACH,),
    ),
    Mutation(
        "precision=auto is always float32", "networks/precision.py",
        'return "tf32" if has_tf32 else "float32"', 'return "float32"',
        ("tests/networks/test_precision.py",),
    ),
    Mutation(
        "bfloat16 is float32", "networks/precision.py",
        'enabled=precision == "bfloat16"', "enabled=False", ("tests/networks/test_precision.py",),
    ),
    Mutation(
        "a trained start's last layer is thrown away", "training/phases.py",
        'last = "class" if trained else None', "last = None", (REACH,),
    ),
    Mutation(
        "the worker does not say that the start is trained", "engine/runtime/worker.py",
        "trained=job.start is not None,", "trained=False,", (WORKER,),
    ),
    Mutation(
        "the worker forgets the classes' weights", "engine/runtime/worker.py",
        "class_weights=class_weights(config.train.class_weights, job.class_pixels),",
        "class_weights=None,", (WORKER,),
    ),
    Mutation(
        "the worker forgets the precision", "engine/runtime/worker.py",
        "precision=job.precision,", 'precision="float32",', (WORKER,),
    ),
    Mutation(
        "sampling is ignored", "training/patches.py",
        'balanced = self.train.sampling == "balanced"', "balanced = False",
        ("tests/training/test_patches.py",),
    ),
    Mutation(
        "superpixels of BGR", "context/superpixels.py",
        "cv2.COLOR_RGB2LAB", "cv2.COLOR_BGR2LAB", ("tests/context/test_superpixels.py",),
    ),
    Mutation(
        "an evaluation's key without the stride", "engine/stages/evaluation.py",
        'settings["stride"] = config.evaluation.stride', "pass", ("tests/engine/test_graph.py",),
    ),
    Mutation(
        "a model's key without the variants", "engine/stages/training.py",
        'settings["variants"] = [config.context.variants, config.context.seed]', "pass",
        ("tests/engine/test_graph.py",),
    ),
    Mutation(
        "an evaluation ignores the stride", "engine/stages/evaluation.py",
        "config.evaluation.stride if config.network.patches else 1,", "1,",
        ("tests/engine/stages/test_evaluation.py",),
    ),
    Mutation(
        "lhs predict drops --flip", "cli/models.py", "flip=options.flip,", "flip=False,",
        (OPTIONS,),
    ),
    Mutation(
        "lhs predict drops --stride", "cli/models.py", "stride=options.stride,", "stride=1,",
        (OPTIONS,),
    ),
    Mutation(
        "lhs evaluate drops the stride", "cli/models.py",
        'folder, config.data, wants_gpu("auto"), wanted.stride, wanted.precision,',
        'folder, config.data, wants_gpu("auto"), 1, wanted.precision,', (OPTIONS,),
    ),
    Mutation(
        "the worker's validation ignores the stride", "engine/runtime/worker.py",
        "job.held_out, len(job.classes), job.void, parents, evaluation.stride,",
        "job.held_out, len(job.classes), job.void, parents, 1,", (WORKER,),
    ),
    Mutation(
        "a validation ignores the stride", "engine/runtime/validation.py",
        "scored = PixelScores(inference_network(model), self.stride, pool)",
        "scored = PixelScores(inference_network(model), 1, pool)",
        ("tests/engine/runtime/test_validation.py",),
    ),
    Mutation(
        "a curve shows the first step's loss", "engine/tracking/metrics.py",
        "**{name: sum(found) / len(found) for name, found in losses.items()},",
        "**{name: found[0] for name, found in losses.items()},",
        ("tests/engine/tracking/test_curves.py",),
    ),
    Mutation(
        "the report's baseline is the run itself", "engine/tracking/reporting.py",
        "baseline_confusion=None if baseline is None else baseline.counts,",
        "baseline_confusion=None if baseline is None else evaluation.counts,",
        ("tests/engine/tracking/test_reporting.py",),
    ),
    Mutation(
        "the baseline that is found is the run itself", "engine/tracking/run_files.py",
        "scored = stages.find(EVALUATION, baseline)", "scored = stages.find(EVALUATION, config)",
        ("tests/engine/tracking/test_reporting.py",),
    ),
    Mutation(
        "example patches are cut elsewhere", "engine/tracking/examples.py",
        "cut_patch(image, centre, size), (", "cut_patch(image, centre[::-1], size), (",
        ("tests/engine/tracking/test_reporting.py",),
    ),
    Mutation(
        "W's drift with ones and zeros swapped", "networks/hierarchical.py",
        '"w_from_one": apart[self.ones].mean(),', '"w_from_one": apart[self.zeros].mean(),',
        ("tests/networks/test_hierarchical.py",),
    ),
    Mutation(
        "S trains on the classes in its subclass phases", "training/trainer.py",
        'if self.phase.target == "subclass":', "if False:", (REACH,),
    ),
    Mutation(
        "subclasses have no weights", "training/loop.py",
        "subclass_weights = weights[matrix.argmax(0).to(device)]", "pass", (REACH,),
    ),
    Mutation(
        "the loss is divided by pixels without weights", "training/trainer.py",
        "pixel_count(batch.labels, counted, self.class_weights)",
        "pixel_count(batch.labels, counted, None)", (REACH,),
    ),
    Mutation(
        "dropout has one mask for all steps", "training/trainer.py",
        "mask_keys(self.config.seed, step, number, batch.places)",
        "mask_keys(self.config.seed, 0, number, batch.places)", (REACH,),
    ),
    Mutation(
        "a validation does not see the moving average", "training/trainer.py",
        "model = self.model if self.average is None else self.average.module",
        "model = self.model", ("tests/training/test_optimizers.py",),
    ),
    Mutation(
        "workers with batch norm pass unequally often", "training/trainer.py",
        "return min(-(-largest // self.micro_batch), size // workers)",
        "return -(-largest // self.micro_batch)", ("tests/training/test_parallel.py",),
    ),
    Mutation(
        "every step writes a checkpoint once it was time", "training/checkpoints.py",
        "        self.write(stream.getvalue())\n        self.written = time.monotonic()",
        "        self.write(stream.getvalue())", ("tests/training/test_checkpoints.py",),
    ),
    Mutation(
        "images of one height are taken for one size", "training/variants.py",
        "groups.setdefault(example.label_map.shape, [])",
        "groups.setdefault(example.label_map.shape[:1], [])", ("tests/training/test_variants.py",),
    ),
    Mutation(
        "random weights keep their statistics", "training/checking.py",
        'if config.network.weights == "none":', "if False:", ("tests/training/test_batch_norm.py",),
    ),
    Mutation(
        "tiles one below another are cut elsewhere", "evaluation/scoring.py",
        "top - y : below - y, left - x", "0 : below - top, left - x",
        ("tests/evaluation/test_scoring.py",),
    ),
    Mutation(
        "features are read in the wrong row", "evaluation/variation.py",
        "rows = centres[:, 0]", "rows = centres[:, 1]", ("tests/evaluation/test_variation.py",),
    ),
    Mutation(
        "mirrored views at other scales stay mirrored", "evaluation/prediction.py",
        "for plane in np.array(part)", "for plane in np.array(one.probabilities)",
        ("tests/evaluation/test_prediction.py",),
    ),
    Mutation(
        "scores lose digits", "evaluation/metrics.py",
        "correct = np.diagonal(counts).astype(np.float64)",
        "correct = np.diagonal(counts).astype(np.float32)",
        ("tests/evaluation/test_metrics.py",),
    ),
    Mutation(
        "a trial whose process died is not failed", "engine/tuning/trials.py",
        'if not result.error and "failed" not in (result.metrics or {}):',
        'if "failed" not in (result.metrics or {}):', ("tests/engine/tuning/test_trials.py",),
    ),
    Mutation(
        "two proposals share one trial", "engine/tuning/trial_ids.py",
        "self.begun.pop(self.assigned[trial_id], None)", "pass",
        ("tests/engine/tuning/test_trials.py",),
    ),
    Mutation(
        "what another run made meanwhile is deleted as stale", "engine/cache.py",
        "                self._known.stale.pop(key.digest, None)\n                result = self",
        "                result = self", ("tests/engine/test_cache.py",),
    ),
    Mutation(
        "a lead that includes zero is not said", "report/compared.py",
        "elif gap.low <= 0:", "elif False:", ("tests/report/test_compared.py",),
    ),
    Mutation(
        "W sums subclass scores in bfloat16", "evaluation/scoring.py",
        "if not torch.is_autocast_enabled(device):", "if True:",
        ("tests/evaluation/test_model.py",),
    ),
    Mutation(
        "a validation computes in TF32", "engine/runtime/validation.py",
        "with arithmetic(self.precision, device):", "if True:",
        ("tests/engine/runtime/test_validation.py",),
    ),
    Mutation(
        "cuML's tolerance is not that of the data", "hierarchy/kmeans.py",
        "tol=max(TOLERANCE * float(histograms.var(axis=0, dtype=np.float64).mean()), 1e-12),",
        "tol=TOLERANCE,", ("tests/hierarchy/test_kmeans.py",),
    ),
    Mutation(
        "cuML starts without weights", "hierarchy/kmeans.py",
        "    if weights is not None:\n        # cuML's own", "    if False:\n        # cuML's own",
        ("tests/hierarchy/test_kmeans.py",),
    ),
    Mutation(
        "curves of workers on other machines are lost", "engine/tracking/metrics.py",
        "if model.reused or not live:", "if model.reused:",
        ("tests/engine/tracking/test_runs.py",),
    ),
    Mutation(
        "workers log to a database on another machine", "engine/pipeline.py",
        "tracker if live else None", "tracker", ("tests/engine/tracking/test_runs.py",),
    ),
    Mutation(
        "a card that torch can't use is a CPU", "engine/runtime/devices.py",
        "if NO_DRIVER in reason:", "if reason:", ("tests/engine/runtime/test_devices.py",),
    ),
)  # fmt: skip


def passed(root: Path, tests: tuple[str, ...]) -> bool:
    """Whether all of these tests pass in a copy.

    Raises
    ------
    RuntimeError
        If they end otherwise than by passing or failing.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not ray", "-p", "no:cacheprovider",
         *tests],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def survivors(root: Path, mutations: tuple[Mutation, ...]) -> list[str]:
    """The changes that no test notices in a copy of the project."""
    tests = tuple(dict.fromkeys(test for mutation in mutations for test in mutation.tests))
    if not passed(root, tests):
        raise RuntimeError("the tests fail as it is")
    left = []
    for mutation in mutations:
        path, changed = root / "lhs" / mutation.file, mutation.applied(root)
        before = path.read_text(encoding="utf-8")
        path.write_text(changed, encoding="utf-8")
        alive = passed(root, mutation.tests)
        path.write_text(before, encoding="utf-8")
        print(f"{'SURVIVED' if alive else 'noticed'}  {mutation.name}", flush=True)
        left += [mutation.name] * alive
    return left


def main(words: list[str]) -> int:
    """Try the mutations whose names have all of the words; 1 if one survives."""
    chosen = tuple(one for one in MUTATIONS if all(word in one.name for word in words))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "lhs"
        away = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache")
        shutil.copytree(PROJECT, root, ignore=away)
        left = survivors(root, chosen)
    print(f"{len(chosen) - len(left)} of {len(chosen)} are noticed")
    return 1 if left or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
