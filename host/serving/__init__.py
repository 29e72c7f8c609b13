"""Many texts at a time with one model, and an HTTP server with the API of OpenAI."""

from importlib.util import find_spec

from tritstream.host.errors import HostError

if not all(map(find_spec, ("fastapi", "greenlet", "uvicorn"))):
    raise HostError("serving needs fastapi, uvicorn and greenlet: pip install "
                    "'tritstream[serve,torch]'")
