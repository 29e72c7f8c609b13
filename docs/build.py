"""Build the site into build/docs; warnings are errors."""

import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

__all__ = ["main"]

_HERE  = Path(__file__).parent
_BUILD = _HERE.parent / "build"


def main() -> int:
    """Build the site and return the exit code of sphinx-build."""
    trees = _BUILD / "doctrees"
    code = sphinx(["-q", "-W", "--keep-going", "-c", str(_HERE), "-d", str(trees),
                   str(_HERE.parent), str(_BUILD / "docs")])
    if code:
        # Sphinx skips unchanged pages, so a second build would not show their warnings again.
        shutil.rmtree(trees, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
