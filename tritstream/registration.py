"""Registration of the package with transformers, without importing transformers.

transformers has no entry points for quantization methods. A method is known after the module that
defines it has been imported, which must be after :mod:`transformers.quantizers.auto`.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

__all__ = ["register"]

_AFTER = "transformers.quantizers.auto"
_HOOKS = "tritstream.host.model.quantizer"


def register() -> None:
    """Let transformers load packed models: now if it is loaded, else as soon as it is."""
    if getattr(sys.modules.get(_AFTER), "AUTO_QUANTIZER_MAPPING", None) is not None:
        _import_hooks()
    else:
        sys.meta_path.insert(0, _Finder())


def _import_hooks() -> None:
    """Import the hooks, or warn why not: transformers must go on working for other models."""
    try:
        import_module(_HOOKS)
    except Exception as error:
        warnings.warn(f"tritstream cannot load packed models by this transformers ({error!r}); "
                      "install transformers>=5.24", stacklevel=2)


class _Finder(MetaPathFinder):
    """Finder of one module, after which the hooks are imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec of the module as usual, with another loader; None for other modules."""
        if fullname != _AFTER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loader that imports the hooks after a module."""

    def __init__(self, loader: Loader):
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as usual."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module as usual, then import the hooks."""
        self._loader.exec_module(module)
        _import_hooks()
