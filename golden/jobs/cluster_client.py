"""Connection to the scheduler of a Dask cluster."""

from typing import Any

from tritstream.golden.errors import CheckpointError

__all__ = ["connect"]

#: Seconds to wait for a response from the scheduler.
_PATIENCE = 30


def connect(address: str) -> Any:
    """Return a ``distributed.Client`` of the scheduler at ``address``; use it in ``with``.

    ``address`` is for example ``tcp://HOST:8786``, or ``tls://HOST:8786`` if the configuration of
    Dask names certificates. Raises :class:`CheckpointError` if no scheduler responds, or if the
    package ``distributed`` is not installed.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise CheckpointError(f"{address}: a cluster needs the package distributed; run pip "
                              "install 'tritstream[cluster]' on all its machines") from None
    try:
        return Client(address, timeout=_PATIENCE)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{address}: no Dask scheduler answers ({error}); start one with "
                              "dask scheduler, and workers") from None
