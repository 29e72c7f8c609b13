"""Build the site into build/docs; a warning is an error."""

import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

__all__ = ["main"]

_HERE  = Path(__file__).parent
_BUILD = _HERE.parent / "build"


def main() -> int:
    """Exit code of sphinx-build."""
    trees = _BUILD / "doctrees"
    code = sphinx(["-q", "-W", "--keep-going", "-c", str(_HERE), "-d", str(trees),
                   str(_HERE.parent), str(_BUILD / "docs")])
    if code:
        # Pages that were read are not read again, so their warnings would not come again.
        shutil.rmtree(trees, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
