"""Makes the CMake exports of the ROS 2 wheels usable in a virtual environment: `repair_wheels.py VENV`.

The exports name the include folders of the machine that built the wheels. CMake fails if a folder does not exist.
"""

import re
import sys
import sysconfig
from pathlib import Path

BUILDER_INCLUDE = re.compile(r"/opt/python/cp\d+-cp\d+/include/python3\.\d+")
BUILDER_SITE_PACKAGES = re.compile(r"/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages")


def main(venv: Path) -> None:
    """Replace the builder's folders by those of the running interpreter."""
    include = sysconfig.get_path("include")
    site_packages = sysconfig.get_path("platlib")
    repaired = 0
    for path in (venv / "share").rglob("*.cmake"):
        text = path.read_text(encoding="utf-8")
        # The replacement is a function, because re.sub would interpret backslashes in a path.
        new = BUILDER_INCLUDE.sub(lambda _: include, text)
        new = BUILDER_SITE_PACKAGES.sub(lambda _: site_packages, new)
        if new != text:
            path.write_text(new, encoding="utf-8")
            repaired += 1
    print(f"{repaired} CMake files repaired")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
