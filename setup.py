"""Packages of the distribution: ``golden/`` is imported as ``tritstream.golden``, and so on."""

from setuptools import find_packages, setup

FOLDERS = ("golden", "hw", "sim", "host", "scripts")

setup(
    packages=[
        "tritstream", "tritstream.models",
        *(f"tritstream.{name}" for folder in FOLDERS
          for name in (folder, *(f"{folder}.{room}" for room in find_packages(folder)))),
    ],
    package_dir={
        "tritstream": "tritstream", "tritstream.models": "models",
        **{f"tritstream.{folder}": folder for folder in FOLDERS},
    },
    package_data={
        "tritstream": ["py.typed"], "tritstream.models": ["tiny-qwen2/*", "tiny-ternary/*"],
        "tritstream.sim": ["*.cpp", "*.h"], "tritstream.hw.tools": ["*.v"],
        "tritstream.hw.axi": ["c/*"],
    },
)
