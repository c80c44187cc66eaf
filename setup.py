"""What pyproject.toml cannot say: a wheel also carries manifests, notebooks and book sources."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHARED = ("data_manifest", "notebooks", "book", "_config.yml")
MADE = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "_build")


class BuildWithShared(build_py):
    """Copies what stands beside the package in a clone into ``miracle_lib/_share``."""

    def run(self) -> None:
        """Build the package, then add the shared files; an editable install finds them itself."""
        super().run()
        if self.editable_mode:
            return
        share = Path(self.build_lib) / "miracle_lib" / "_share"
        shutil.rmtree(share, ignore_errors=True)
        for source in map(Path, SHARED):
            if source.is_dir():
                shutil.copytree(source, share / source, ignore=MADE)
            else:
                shutil.copy(source, share / source)
        shutil.rmtree(share / "book" / "notebooks", ignore_errors=True)  # made by a book build


setup(cmdclass={"build_py": BuildWithShared})
