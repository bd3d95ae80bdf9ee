"""Does the test suite notice when the explainer is wrong? Each mutation must make a test fail.

    python tools/mutate.py [NAME ...]

Each is a copy of the package with a few lines replaced, against which the explainer's tests run until the first
failure. Exit code 1 when a mutation survives, or when the tests fail without any.
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

TESTS = [
    f"test/test_{name}.py"
    for name in (
        "perturbation",
        "moments",
        "importance",
        "ranking",
        "tracing",
        "deconvnet",
        "deconvnet_crops",
        "patches",
        "sampling",
        "winograd",
        "explainer",
        "explainer_properties",
    )
]

#: By name: (module, what it says, what the mutation says).
MUTATIONS: dict[str, list[tuple[str, str, str]]] = {
    "none": [],
    "repetition instead of switches": [
        ("deconvnet", "repeat(maps, size) * switch_mask(switches, size, maps.dtype)", "repeat(maps, size)"),
        ("deconvnet_crops", "mask[in_map_y, :, in_map_x], out", "mask[in_map_y, :, in_map_x] * 0 + 1, out"),
    ],
    "repetition instead of switches, on crops": [
        ("deconvnet_crops", "mask[in_map_y, :, in_map_x], out", "mask[in_map_y, :, in_map_x] * 0 + 1, out"),
    ],
    "unflipped filters": [
        ("deconvnet", "conv_transpose2d(maps, module.weight,", "conv_transpose2d(maps, module.weight.flip(2, 3),"),
        ("deconvnet_crops", "maps, _weight(module), None", "maps, _weight(module).flip(2, 3), None"),
    ],
    "unflipped filters, on crops": [
        ("deconvnet_crops", "maps, _weight(module), None", "maps, _weight(module).flip(2, 3), None"),
    ],
    "a forward ReLU mask": [
        ("deconvnet", "if rectified is not None:\n                    maps = maps * (rectified[index] > 0)",
         "if layer.number in activations:\n                    maps = maps * (activations[layer.number] > 0)"),
        ("explainer", 'settings.deconvnet == "deconvnet" and settings.deconvnet_start == "strongest"', "False"),
    ],
    "a forward ReLU mask, densely": [
        ("deconvnet", "if rectified is not None:\n                    maps = maps * (rectified[index] > 0)",
         "if layer.number in activations:\n                    maps = maps * (activations[layer.number] > 0)"),
    ],
    "no ReLU on the way down": [
        ("deconvnet", "maps = maps.relu()", "maps = maps * 1"),
        ("deconvnet_crops", "maps = maps.relu_()", "pass"),
    ],
    "seed 1 instead of the activation": [
        ("deconvnet", "scatter_(1, position, flat.gather(1, position))", "scatter_(1, position, 1.0)"),
        ("deconvnet_crops", "value = activation[channels].flatten(1).amax(1).relu()",
         "value = torch.ones_like(activation[channels].flatten(1).amax(1))"),
    ],
    "seed 1 instead of the activation, on crops": [
        ("deconvnet_crops", "value = activation[channels].flatten(1).amax(1).relu()",
         "value = torch.ones_like(activation[channels].flatten(1).amax(1))"),
    ],
    "crops that see beyond the image": [
        ("deconvnet_crops", "            _clear_outside(maps, rows, columns)", "            pass"),
    ],
    "moments that are not shifted back": [
        ("moments", "return self.shift + self._mean_shift", "return self._mean_shift"),
    ],
    "variance of a sample instead of the population": [
        ("moments", "value=-1).clamp_min_(0)", "value=-1).clamp_min_(0) * (self.count.sum() / (self.count.sum() - 1))"),
    ],
    "groups that are summed by chunk": [
        ("moments", "index = torch.arange(first, first + len(o), device=o.device)",
         "index = torch.arange(0, len(o), device=o.device)"),
    ],
    "halves that share perturbations": [
        ("moments", "self.select(slice(1, None, 2))", "self.select(slice(0, None, 1))"),
    ],
    "discarded neurons first": [
        ("importance", "return order[~torch.isnan(scores[order])][:top_n]", "return torch.topk(scores, top_n).indices"),
    ],
    "signed correlation": [
        ("importance", "correlation.abs_()", "correlation"),
    ],
    "no minimum of live positions": [
        ("importance", "(count >= live_share_min * positions)", "(count >= 0)"),
    ],
    "the mean of 1/variance": [
        ("importance", "if mean_of_inverse:", "if not mean_of_inverse:"),
    ],
    "incoming for outgoing weights": [
        ("ranking", 'if settings.weights == "outgoing"', 'if settings.weights == "incoming"'),
    ],
    "noise after the mean is subtracted": [
        ("perturbation", "return self.pixels * (1.0 + sigma * fields)", "return self.pixels + sigma * fields * 57"),
    ],
    "a ramp that starts at zero": [
        ("perturbation", "torch.arange(self.taken + 1, self.taken + count + 1,",
         "torch.arange(self.taken, self.taken + count,"),
    ],
    "P(person) for the logit": [
        ("sampling", 'self._settings.output == "probability"', 'self._settings.output != "probability"'),
    ],
    "tiles that overlap too little": [
        ("winograd", "edges = (0, 0, 1, 1 +", "edges = (0, 0, 0, 2 +"),
    ],
    "patches rounded inwards": [
        ("patches", "math.ceil(region.x +", "math.floor(region.x +"),
    ],
}  # fmt: skip


def mutate(folder: Path, changes: list[tuple[str, str, str]]) -> None:
    """Change the package in a folder."""
    for module, old, new in changes:
        path = folder / "explain_cnn_ros" / f"{module}.py"
        text = path.read_text()
        if old not in text:
            raise ValueError(f"{module}.py does not say {old!r} any more: bring this list up to date")
        path.write_text(text.replace(old, new))


def survives(name: str) -> tuple[bool, str]:
    """Whether all tests pass with a mutation; and the first that fails."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in ("explain_cnn_ros", "test"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "ros", "bags"))
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
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="[all]")
    names = parser.parse_args().names or list(MUTATIONS)
    bad = 0
    for name in names:
        start = time.perf_counter()
        alive, test = survives(name)
        right = alive == (name == "none")
        bad += not right
        said = "passes" if alive else f"caught by {test}"
        print(f"{'ok ' if right else 'BAD'} {name}: {said} ({time.perf_counter() - start:.0f} s)", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
