"""Models of the Hugging Face Hub: names, download into the Hub's cache, and names of snapshots."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from tritstream.golden.checkpoints.weight_files import PACKED, PLAIN
from tritstream.golden.errors import CheckpointError
from tritstream.golden.strict_json import parse_json

__all__ = ["cached_name", "is_hub_name", "local_model", "snapshot_name"]

#: OWNER/NAME, OWNER/NAME@REVISION, or either with /FILE.gguf; also as the address of its page.
_HUB = re.compile(
    r"(?:https?:/+(?:huggingface\.co|hf\.co)/)?(?P<name>\w[\w.-]*/\w[\w.-]*)"
    r"(?:@(?P<revision>\w[\w./-]*?))?(?:/(?P<file>[\w./-]+\.gguf))?", re.ASCII)

#: Files next to the weights: configuration, tokenizer, chat template, card and licence.
_SMALL = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", "*.md", "LICENSE*", "NOTICE*")
#: Files in folders, which no checkpoint is read from.
_DEEPER = "*/*"
#: Weights in one file: of a plain and of a packed checkpoint.
_SINGLE = (PLAIN.single, PACKED.single)


def local_model(model: str | Path) -> Path:
    """Return the local path of a model, and download it first if the Hub has it.

    Only safetensors, configuration, tokenizer, card and licence are downloaded, into the Hub's own
    cache, from which a repeated call takes them. ``huggingface_hub`` reads its environment
    variables, such as ``HF_TOKEN``, ``HF_HOME``, ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE``. A bar on a
    terminal shows the progress. A path that does not exist and cannot be a name is returned as it
    is.

    Parameters
    ----------
    model : path or str
        A path that exists always counts as a path. Otherwise ``OWNER/NAME`` or
        ``OWNER/NAME@REVISION`` is a model of the Hub, and ``OWNER/NAME/FILE.gguf`` one file of it.
        Revisions are branches, tags and commits. Within a process, a name means one commit.

    Raises :class:`.CheckpointError` if a name is neither a path nor a model that can be downloaded.
    """
    path, found = Path(model), _HUB.fullmatch(str(model))
    if found is None or os.path.lexists(path) or path.with_name(f"{path.name}.partial").is_dir():
        return path
    return _download(found["name"], found["revision"], found["file"])


def is_hub_name(text: str) -> bool:
    """Return whether a text has the form OWNER/NAME."""
    found = _HUB.fullmatch(text)
    return found is not None and found["name"] == text


def snapshot_name(path: Path) -> tuple[str, str] | None:
    """Return name and commit of the model to which a path in the Hub's cache belongs.

    The path is the directory of a snapshot or a file in it.
    """
    for place in (path.absolute(), path.absolute().parent):
        if place.parent.name == "snapshots" and (name := cached_name(place.parent.parent)):
            return name, place.name
    return None


def cached_name(folder: Path) -> str | None:
    """Return the name of the model to which a folder of the Hub's cache belongs."""
    if not folder.name.startswith("models--"):
        return None
    return folder.name.removeprefix("models--").replace("--", "/", 1)


@cache
def _download(name: str, revision: str | None, file: str | None) -> Path:
    given = name + (f"@{revision}" if revision else "") + (f"/{file}" if file else "")
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError as error:
        raise _unfit(given, "models of the Hub need the package huggingface_hub; run pip install "
                            "'tritstream[torch]'") from error
    with _explained(given, name):
        if file:
            return Path(hf_hub_download(name, file, revision=revision))
        folder = _snapshot(name, revision, _SMALL)
        _snapshot(name, folder.name, (*_SINGLE, *_shards(folder)))
    if not any(folder.glob("*.safetensors")):
        raise _unfit(given, f"{name} has no weights as safetensors on the Hub; name a GGUF file of "
                            f"it as {name}/FILE.gguf, or give another model")
    return folder


def _snapshot(name: str, revision: str | None, patterns: Iterable[str]) -> Path:
    """Return the directory of a snapshot after a download of the files that match patterns."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import tqdm

    with ExitStack() as bars:
        class Bar(tqdm):
            """Of the library's bars, the bytes of all files, on a terminal only."""

            def __init__(self, *args: object, **options: object):
                wanted = options.pop("name", None) == "huggingface_hub.snapshot_download"
                super().__init__(*args, **options | {
                    "disable": None if wanted else True, "leave": False,
                    "desc": f"downloading {name}"})
                bars.callback(self.close)

            def set_description(self, *_: object, **__: object) -> None:
                """Keep the description."""

        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns),
                                      ignore_patterns=_DEEPER, tqdm_class=Bar))


def _shards(folder: Path) -> set[str]:
    """Return patterns of the files with weights that indices in a snapshot name."""
    found: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        # The reader of the checkpoint says what is wrong with an index.
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            names = parse_json(index.read_bytes())["weight_map"].values()
            found |= {glob.escape(name) for name in names if isinstance(name, str)}
    return found


@contextmanager
def _explained(given: str, name: str) -> Iterator[None]:
    """Turn errors of the Hub into one line; errors of the disk pass."""
    from huggingface_hub import errors
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    # Its warnings are of retries, and of files that a model does not have.
    logging.set_verbosity_error()
    try:
        yield
    except errors.HFValidationError:
        raise _unfit(given, "not the name of a model on the Hub; check it") from None
    except errors.GatedRepoError as error:
        raise _unfit(given, f"the Hub lets only approved accounts read {name}; ask for access on "
                            f"{_endpoint()}/{name}, and run `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise _unfit(given, f"{name} has no such revision on the Hub; give a branch, a tag or a "
                            "commit of it") from error
    except errors.RepositoryNotFoundError as error:
        raise _unfit(given, f"no public model of that name on the Hub ({_endpoint()}); check the "
                            "name, or run `hf auth login` if it is private") from error
    except errors.RemoteEntryNotFoundError as error:
        raise _unfit(given, f"{name} has no such file on the Hub") from error
    except errors.LocalEntryNotFoundError as error:
        raise _unfit(given, _about_reach(error)) from error
    except (errors.HfHubHTTPError, errors.HTTPError) as error:
        raise _unfit(given, _about_answer(error)) from error
    finally:
        logging.set_verbosity(before)


def _about_reach(error: OSError) -> str:
    """Explain why the Hub cannot be asked about a model that the cache does not hold."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    cause = error.__cause__
    if isinstance(cause, HfHubHTTPError):
        return _about_answer(cause)
    held = "the cache of the Hub does not hold all its files"
    if cause is None or isinstance(cause, OfflineModeIsEnabled):
        return f"{held}, and HF_HUB_OFFLINE forbids to download them; unset it for a download"
    return (f"{held}, and the Hub cannot be reached at {_endpoint()} ({_first_line(cause)}); "
            "connect this machine, or download the model elsewhere and give its directory")


def _about_answer(error: Exception) -> str:
    """Explain an HTTP error, or a connection that broke."""
    response = getattr(error, "response", None)
    if response is None:
        return (f"the download from {_endpoint()} stopped ({_first_line(error)}); run the same "
                "command again, which downloads the missing files")
    advice = "run `hf auth login`" if response.status_code in (401, 403) else "try again later"
    return f"the Hub at {_endpoint()} answers with HTTP error {response.status_code}; {advice}"


def _first_line(error: BaseException) -> str:
    return f"{error}".strip().partition("\n")[0] or type(error).__name__


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _unfit(given: str, fault: str) -> CheckpointError:
    return CheckpointError(f"{given}: no such file or directory, and {fault}")
