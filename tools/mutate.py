"""Check that the test suite notices errors in the explainer: each mutation must make a test fail.

    python tools/mutate.py [NAME ...]

A mutation is a copy of the package with a few lines replaced. The tests run against the copy until the first failure.
The exit code is 1 if a mutation survives, or if the tests fail without a mutation.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Tests of the explainer, the cheap ones first.
TESTS = [
    f"test/{name}.py"
    for name in (
        "explain/test_perturbation",
        "explain/test_moments",
        "explain/metrics/test_paper",
        "explain/metrics/test_registry",
        "explain/test_selection",
        "explain/test_evidence",
        "explain/test_network_adapter",
        "explain/vgg/test_tracing",
        "explain/vgg/test_gradients",
        "explain/vgg/test_deconvnet",
        "explain/vgg/test_deconvnet_crops",
        "explain/vgg/test_silencing",
        "explain/vgg/test_adapter",
        "explain/test_patches",
        "explain/test_sampling",
        "explain/test_locating",
        "explain/test_proof",
        "explain/test_influence",
        "explain/test_silencing",
        "model/test_output",
        "model/test_winograd",
        "explain/test_stages",
        "explain/test_explainer",
        "explain/test_explainer_properties",
    )
]

#: Mutations by name: module, source text, and the text that replaces it.
MUTATIONS: dict[str, list[tuple[str, str, str]]] = {
    "none": [],
    "repetition instead of switches": [
        ("explain/vgg/deconvnet", "repeat(maps, size) * switch_mask(switches, size, maps.dtype)", "repeat(maps, size)"),
        ("explain/vgg/deconvnet_crops", "mask[in_map_y, :, in_map_x], out",
         "mask[in_map_y, :, in_map_x] * 0 + 1, out"),
    ],
    "repetition instead of switches, on crops": [
        ("explain/vgg/deconvnet_crops", "mask[in_map_y, :, in_map_x], out",
         "mask[in_map_y, :, in_map_x] * 0 + 1, out"),
    ],
    "unflipped filters": [
        ("explain/vgg/deconvnet", "conv_transpose2d(maps, module.weight,",
         "conv_transpose2d(maps, module.weight.flip(2, 3),"),
        ("explain/vgg/deconvnet_crops", "maps, _weight(module), None", "maps, _weight(module).flip(2, 3), None"),
    ],
    "unflipped filters, on crops": [
        ("explain/vgg/deconvnet_crops", "maps, _weight(module), None", "maps, _weight(module).flip(2, 3), None"),
    ],
    "a forward ReLU mask": [
        ("explain/vgg/deconvnet", "if rectified is not None:\n                    maps = maps * (rectified[index] > 0)",
         "if layer.number in activations:\n                    maps = maps * (activations[layer.number] > 0)"),
        ("explain/vgg/adapter",
         'if method == "deconvnet" and all(start.position is not None for start in starts):', "if False:"),
    ],
    "a forward ReLU mask, on whole maps": [
        ("explain/vgg/deconvnet", "if rectified is not None:\n                    maps = maps * (rectified[index] > 0)",
         "if layer.number in activations:\n                    maps = maps * (activations[layer.number] > 0)"),
    ],
    "no ReLU in the backward pass": [
        ("explain/vgg/deconvnet", "maps = maps.relu()", "maps = maps * 1"),
        ("explain/vgg/deconvnet_crops", "maps = maps.relu_()", "pass"),
    ],
    "seed 1 instead of the activation": [
        ("explain/vgg/deconvnet", "return activation.where(kept.view_as(activation), 0)",
         "return torch.ones_like(activation).where(kept.view_as(activation), 0)"),
        ("explain/vgg/deconvnet_crops", "[column for _, column in places]].relu()",
         "[column for _, column in places]].relu() * 0 + 1"),
    ],
    "seed 1 instead of the activation, on crops": [
        ("explain/vgg/deconvnet_crops", "[column for _, column in places]].relu()",
         "[column for _, column in places]].relu() * 0 + 1"),
    ],
    "crops that reach out of the image": [
        ("explain/vgg/deconvnet_crops", "            _clear_outside(maps, rows, columns)", "            pass"),
    ],
    "moments that are not shifted back": [
        ("explain/moments", "return self.shift + self._mean_shift", "return self._mean_shift"),
    ],
    "variance of a sample instead of the population": [
        ("explain/moments", "value=-1).clamp_min_(0)",
         "value=-1).clamp_min_(0) * (self.count.sum() / (self.count.sum() - 1))"),
    ],
    "groups that are summed by chunk": [
        ("explain/moments", "index = torch.arange(first, first + len(o), device=o.device)",
         "index = torch.arange(0, len(o), device=o.device)"),
    ],
    "halves that share perturbations": [
        ("explain/moments", "self.select(slice(1, None, 2))", "self.select(slice(0, None, 1))"),
    ],
    "discarded neurons first": [
        ("explain/selection", "order[~torch.isnan(scores[order])][:top_n].tolist()",
         "torch.topk(scores, min(top_n, len(scores))).indices.tolist()"),
    ],
    "signed correlation": [
        ("explain/metrics/paper", "correlation.abs_()", "correlation"),
    ],
    "no minimum of live positions": [
        ("explain/metrics/paper", "(count >= live_share_min * positions)", "(count >= 0)"),
    ],
    "the mean of 1/variance": [
        ("explain/metrics/paper", "    if mean_of_inverse:", "    if not mean_of_inverse:"),
    ],
    "confidence intervals that discard neurons": [
        ("explain/evidence", "discard=False", "discard=True"),
    ],
    "the jackknife without its factor": [
        ("explain/evidence", " * (groups - 1) / groups", ""),
    ],
    "incoming weights instead of outgoing ones": [
        ("explain/vgg/adapter", 'if direction == "incoming":', 'if direction == "outgoing":'),
    ],
    "noise that is added": [
        ("explain/perturbation", "return self.pixels * (1.0 + sigma * fields)",
         "return self.pixels + sigma * fields * 57"),
    ],
    "a ramp that starts at zero": [
        ("explain/perturbation", 'index + 1 if self.noise == "ramp" else index', "index"),
    ],
    "P(person) instead of the logit": [
        ("explain/network_adapter", 'if kind == "probability"', 'if kind != "probability"'),
    ],
    "a margin of the wrong class": [
        ("model/output", "logits[..., target] - logits[..., 1 - target]",
         "logits[..., 1 - target] - logits[..., target]"),
    ],
    "a whole frame that is cropped": [
        ("explain/explainer", "if region.covers((frame.shape[1], frame.shape[0])):", "if False:"),
    ],
    "live neurons last": [
        ("explain/silencing", "key=lambda c: not alive[c]", "key=lambda c: alive[c]"),
    ],
    "neurons that are silenced in all passes": [
        ("explain/vgg/silencing", "x[row, copy.silenced[index]] =", "x[:, copy.silenced[index]] ="),
    ],
    "silenced neurons that still reach the next convolution": [
        ("explain/vgg/silencing", "return output - part", "return output.clone()"),
    ],
    "copies that are returned in the order in which they join": [
        ("explain/vgg/silencing", "result[rows] = _pass", "result[start : start + len(rows)] = _pass"),
    ],
    "gradients that pass closed ReLUs": [
        ("explain/vgg/gradients", "gradient = torch.ops.aten.threshold_backward(gradient, activation, 0)",
         "gradient = gradient * 1"),
    ],
    "gradients of unflipped filters": [
        ("explain/vgg/gradients", "conv_transpose2d(gradient, module.weight,",
         "conv_transpose2d(gradient, module.weight.flip(2, 3),"),
    ],
    "gradients of Winograd convolutions with unflipped filters": [
        ("model/winograd", "self.filters.transpose(1, 2), self.gradient_from_tiles",
         "self.filters.transpose(1, 2), self.from_tiles"),
    ],
    "gradients without activations": [
        ("explain/vgg/gradients", "product = activation * gradient", "product = (activation > 0) * gradient"),
    ],
    "contributions of another window": [
        ("explain/vgg/gradients", "product[0].to(wide, copy=True)", "product[-1].to(wide, copy=True)"),
    ],
    "contributions that hold the whole batch": [
        ("explain/vgg/gradients", "product[0].to(wide, copy=True)", "product[0].to(wide)"),
    ],
    "influences of the window among those of the perturbations": [
        ("explain/sampling", "influences[first:]", "influences"),
    ],
    "influences that are grouped by chunk": [
        ("explain/influences", "torch.arange(first, first + len(influences)", "torch.arange(0, len(influences)"),
    ],
    "the image's influence instead of the mean": [
        ("explain/influences", "return self.sum.sum(0) / total if total else self.image", "return self.image"),
    ],
    "neurons of the other side": [
        ("explain/metrics/registry", "torch.where(toward > 0, toward, torch.nan)", "toward"),
    ],
    "the same side for each decision": [
        ("explain/metrics/registry", "person == (self.selects is Selects.SUPPORTING)",
         "self.selects is Selects.SUPPORTING"),
    ],
    "a decision without its threshold": [
        ("explain/ranking", ">= self._threshold", ">= 0.5"),
    ],
    "starts at the largest contribution for the person": [
        ("explain/locating", "person == (selects is Selects.SUPPORTING)", "True"),
    ],
    "starts at the strongest activation": [
        ("explain/locating", "values = toward.where(contributes, values)", "pass"),
    ],
    "starts of neurons that contribute nowhere": [
        ("explain/locating", "values = toward.where(contributes, values)", "values = toward"),
    ],
    "changes instead of falls in a proof": [
        ("explain/proof", "key: before - value", "key: value - before"),
    ],
    "an error that cancels": [
        ("explain/proof", "sum(abs(p - m) for p, m in zip(predicted, measured, strict=True))",
         "abs(sum(p - m for p, m in zip(predicted, measured, strict=True)))"),
    ],
    "a share of an output that argues for the other decision": [
        ("explain/proof", "if (margin > 0) != person:", "if False:"),
    ],
    "a share of the probability of the other decision": [
        ("explain/proof", "return output - 1 if", "return output if"),
    ],
    "a proof in half precision": [
        ("explain/proof", '"float32" if settings.compute_precision in COARSE_PRECISIONS else', ""),
    ],
    "a proof that never disagrees": [
        ("explain/proof", "disagrees=error > PROOF_ERROR_MAX", "disagrees=False"),
    ],
    "tiles that overlap too little": [
        ("model/winograd", "edges = (0, 0, 1, 1 +", "edges = (0, 0, 0, 2 +"),
    ],
    "patches rounded inwards": [
        ("explain/patches", "math.ceil(region.x +", "math.floor(region.x +"),
    ],
}  # fmt: skip


def mutate(folder: Path, changes: list[tuple[str, str, str]]) -> None:
    """Replace the source texts of a mutation in a copy of the package.

    Args:
        folder: Folder of the copy.
        changes: Module, source text, and the text that replaces it.

    Raises:
        ValueError: A source text does not occur exactly once.
    """
    for module, old, new in changes:
        path = folder / "explain_cnn_ros" / f"{module}.py"
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{module}.py contains {old!r} {text.count(old)} times, not once: update MUTATIONS")
        path.write_text(text.replace(old, new))


def survives(name: str) -> tuple[bool, str]:
    """Run the tests against a mutation.

    Args:
        name: Name of the mutation.

    Returns:
        Whether all tests pass, and the first test that fails; "" if none does.

    Raises:
        RuntimeError: The tests did not run.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in ("explain_cnn_ros", "test"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "weights"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        mutate(folder, MUTATIONS[name])
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the tests did not run:\n{done.stdout}{done.stderr}")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return done.returncode == 0, failed[0].removeprefix("FAILED ").split(" - ")[0] if failed else ""


def main() -> int:
    """Run the mutations that are named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations [all]")
    names = parser.parse_args().names or list(MUTATIONS)
    unknown = [name for name in names if name not in MUTATIONS]
    if unknown:
        parser.error(f"there is no mutation {unknown[0]!r}: use one of {', '.join(MUTATIONS)}")
    bad = 0
    for name in names:
        start = time.perf_counter()
        alive, test = survives(name)
        right = alive == (name == "none")
        bad += not right
        result = "passes" if alive else f"caught by {test}"
        print(f"{'ok ' if right else 'BAD'} {name}: {result} ({time.perf_counter() - start:.0f} s)", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
