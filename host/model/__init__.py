"""Models of transformers with packed linear layers. Only this room requires torch."""

from importlib.util import find_spec

from tritstream.host.errors import HostError

if not (find_spec("torch") and find_spec("transformers")):
    raise HostError("models need torch and transformers: pip install 'tritstream[torch]'")
