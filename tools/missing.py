"""Prints the lines of requirements files whose package the system lacks, so that a virtual environment must add it.

`missing.py REQUIREMENTS... --constraints FILE` also writes constraints for pip: versions of the system's packages that
the installation must not change.
"""

import argparse
import importlib
import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

# Distributions whose module has another name.
MODULES = {
    "colcon-common-extensions": "colcon_core",
    "empy": "em",
    "opencv-python": "cv2",
    "pytest-xdist": "xdist",
}
PROGRAMS = {"cmake"}
# Compiled parts of ROS and of apt's OpenCV need exactly this version; a newer one would hide it and break them.
KEEP = ("numpy",)
# torch would install the newest version, which breaks colcon's and ament's use of setup.py.
LIMITS = ("setuptools<80",)


def system_has(distribution: str) -> bool:
    """Return whether the package is installed outside of this virtual environment."""
    place: str | None
    if distribution in PROGRAMS:
        place = shutil.which(distribution)
    else:
        module = importlib.util.find_spec(MODULES.get(distribution, distribution.replace("-", "_")))
        place = module.origin if module else None
    return place is not None and not place.startswith(sys.prefix + os.sep)


def main() -> None:
    """Compare the requirements with the installed packages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requirements", nargs="+", type=Path)
    parser.add_argument("--constraints", type=Path, required=True)
    arguments = parser.parse_args()
    for path in arguments.requirements:
        for line in path.read_text(encoding="utf-8").splitlines():
            requirement = re.split(r"\s+#", line)[0].strip()
            if not requirement or requirement.startswith("#"):
                continue
            name = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert name is not None, f"{path}: cannot read '{line}'"
            if not system_has(name[0]):
                print(requirement)
    kept = [name for name in KEEP if system_has(name)]
    constraints = [*(f"{name}=={importlib.import_module(name).__version__}" for name in kept), *LIMITS]
    arguments.constraints.write_text("\n".join(constraints) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
