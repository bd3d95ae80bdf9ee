"""Installs with pip the parts that need no ROS: classifier, explainer, analysis, experiments and training.

colcon builds the whole package with its messages and nodes: see CMakeLists.txt.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "explain_cnn_ros"
HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / NAME / "__init__.py").read_text(encoding="utf-8"), re.M)
assert VERSION is not None, "no __version__"
README = HERE / "README.md"

# lz4, ruamel.yaml and zstd are imported here as well. rosbags needs them since 0.11.
BAGS = ["rosbags>=0.11", "lz4", "ruamel.yaml", "backports.zstd; python_version < '3.14'"]
ANALYSIS = [*BAGS, "pyarrow", "scipy"]
EXPERIMENTS = [*ANALYSIS, "captum", "matplotlib"]

setup(
    name=NAME,
    version=VERSION[1],
    description="Explains why a person classifier decided as it did on a camera image",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="explain_cnn_ros maintainers",
    author_email="maintainers@users.noreply.example",
    license="Apache-2.0",
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "model/weights/*.safetensors", "analysis/pages/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    install_requires=[
        "numpy",
        "opencv-python>=4.6,<5",
        "safetensors",
        "torch>=2.1",
        "tqdm",
    ],
    extras_require={
        "bags": BAGS,  # read recordings
        "analysis": ANALYSIS,  # explain-cnn analyze, review, causes, repair and compare
        "cluster": [*ANALYSIS, "ray"],  # explain-cnn analyze --ray
        "experiments": EXPERIMENTS,  # explain-cnn experiments: figures, LIME and Grad-CAM
        "networks": ["torchvision"],  # networks of torchvision: explain-cnn import-weights, and its weights files
        "test": [*EXPERIMENTS, "hypothesis", "nbclient", "ipykernel", "pytest", "pytest-timeout", "ray", "torchvision"],
    },
    entry_points={"console_scripts": [f"explain-cnn = {NAME}.cli:main"]},
    zip_safe=False,
)
