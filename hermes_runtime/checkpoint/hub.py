"""From the name of a model to the folder of its files. Nothing else speaks to the hub.

Whatever stands in the way - no network, no such model, no rights, no place to download to - leaves here as a sentence
that says what to do.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hermes_runtime.errors import CheckpointError, HermesError, ModelNotFoundError

logger = logging.getLogger(__name__)

TINY_HERMES = "tiny-hermes"
TINY_FOLDER = Path(__file__).parents[1] / "tiny" / "checkpoint"
CONFIG = "config.json"
_SMALL_FILES = (".json", ".txt", ".jinja")
_TOKENIZER = "tokenizer.model"
_WEIGHTS = ".safetensors"
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".gguf")
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w.-]+)?")
_NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_RIGHTS = (401, 403)
_TOO_MANY_REQUESTS = 429
_LONGEST_DETAIL = 160
_GB = 1e9
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
_ELSEWHERE = "or give a local folder"


def find_folder(model: str, *, weights: bool = True) -> Path:
    """Return the folder of a model's files; what a hub id lacks in the cache is downloaded.

    Where the hub cannot be asked, what it gave earlier is used.

    Args:
        model: A local folder, a hub id, or `"tiny-hermes"`.
        weights: Whether its weights are wanted too, and not just configuration and tokenizer.

    Raises:
        ModelNotFoundError: There is no such model, or its files cannot be fetched.
        CheckpointError: The hub has no safetensors of it.
    """
    if (own := _own_folder(model)) is not None:
        return own
    try:
        return _download(model, weights=weights)
    except Exception as error:  # noqa: BLE001 - the client raises what it, httpx, json and the disk raise
        cached = _cached_folder(model, weights=weights)
        explained = _explained(model, error)
        if cached is None:
            raise explained from explained.__cause__
        logger.info("%s is taken from %s: %s", model, cached, explained)
        return cached


def find_local_folder(model: str, *, weights: bool = True) -> Path | None:
    """Return the folder of a model that is on this disk, without any network; None for a hub id that is not.

    Raises:
        ModelNotFoundError: The name is neither a folder nor a hub id.
    """
    return _own_folder(model) or _cached_folder(model, weights=weights)


def weigh_download(model: str) -> int:
    """Return the size in bytes of the weights of a hub id, having made sure that they could be downloaded.

    Raises:
        ModelNotFoundError: There is no such model, or its files could not be fetched.
        CheckpointError: The hub has no safetensors of it.
    """
    try:
        offer = _ask(model, weights=True)
        if offer.is_gated:
            _check_access(model)
        _check_cache(offer.missing())
    except Exception as error:  # noqa: BLE001 - as in find_folder
        explained = _explained(model, error)
        raise explained from explained.__cause__
    return sum(size for name, size in offer.files.items() if name.endswith(_WEIGHTS))


@dataclass(frozen=True, slots=True)
class _Offer:
    """What the hub has of a model: the commit, and the wanted files with their sizes in bytes."""

    model: str
    commit: str
    files: Mapping[str, int]
    is_gated: bool

    def missing(self) -> int:
        """Bytes that are not in the cache yet."""
        return sum(size for name, size in self.files.items() if _cached(self.model, name, self.commit) is None)


def _own_folder(model: str) -> Path | None:
    """Return the folder of a model that is no hub id; None where only the hub or its cache can have it."""
    if model == TINY_HERMES:
        return TINY_FOLDER
    path = os.path.expanduser(model)  # noqa: PTH111 - pathlib's raises where there is no home
    if os.path.isdir(path):  # noqa: PTH112 - pathlib's raises where a parent may not be read
        return Path(path)
    if os.path.isfile(path):  # noqa: PTH113 - as above
        raise ModelNotFoundError(
            f"{model!r} is a file; give the folder that holds config.json and the safetensors shards"
        )
    if not _HUB_ID.fullmatch(model) or model.startswith(("~", ".")):
        raise ModelNotFoundError(f"there is no folder {model!r}, and it is no hub id of the form 'owner/name'")
    return None


def _cached(model: str, name: str, commit: str | None = None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - costs time, and may not be needed

    try:
        found = try_to_load_from_cache(model, name, revision=commit)
    except (OSError, ValueError):  # a cache that may not be read; no hub id
        return None
    return Path(found) if isinstance(found, str) else None


def _cached_folder(model: str, *, weights: bool) -> Path | None:
    config = _cached(model, CONFIG)
    if config is None or (weights and not any(config.parent.glob(f"*{_WEIGHTS}"))):
        return None
    return config.parent


def _download(model: str, *, weights: bool) -> Path:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - as above

    offer = _ask(model, weights=weights)
    _check_cache(offer.missing())
    # One file after the other and in this thread: Ctrl-C ends it at once, and no half file is left behind.
    for name in offer.files:
        hf_hub_download(model, name, revision=offer.commit)
    # Asked for by its branch, a file makes the cache remember the commit; now that all of it is here.
    if (known := _cached(model, CONFIG)) is None or known.parent.name != offer.commit:
        hf_hub_download(model, CONFIG)
    folder = _cached(model, CONFIG, offer.commit)
    if folder is None:
        raise FileNotFoundError(f"{CONFIG} of {model} vanished from the cache while it was downloaded")
    return folder.parent


def _ask(model: str, *, weights: bool) -> _Offer:
    from huggingface_hub import HfApi, constants  # noqa: PLC0415 - as above

    info = HfApi().model_info(model, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if "/" not in file.rfilename}
    if CONFIG not in sizes or info.sha is None:
        raise ModelNotFoundError(f"{model!r} on the hub is no model that transformers reads: it has no {CONFIG}")
    # Mistral's own releases repeat all weights under other names.
    stored = [name for name in sizes if name.endswith(_WEIGHTS) and not name.startswith("consolidated")]
    if weights and not stored:
        others = ", ".join([name for name in sizes if name.endswith(_OTHER_WEIGHTS)][:3])
        found = f" but {others}" if others else ""
        raise CheckpointError(
            f"{model!r} has no *.safetensors on the hub{found}; weights are only read from safetensors"
        )
    small = [name for name in sizes if name.endswith(_SMALL_FILES) or name == _TOKENIZER]
    wanted = [*small, *stored] if weights else small
    return _Offer(model, info.sha, {name: sizes[name] for name in wanted}, bool(info.gated))


def _check_access(model: str) -> None:
    """Ask for a file's head: the description of a gated model is public, its files are not."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url  # noqa: PLC0415 - as above

    get_hf_file_metadata(hf_hub_url(model, CONFIG), timeout=constants.HF_HUB_ETAG_TIMEOUT)


def _check_cache(needed: int) -> None:
    """Raise unless so many bytes can be written to the cache; a huge download shall not fail at its end."""
    if not needed:
        return
    cache = _cache()
    if cache.startswith("~"):
        raise ModelNotFoundError(
            "there is no home folder to download to; set HF_HOME to a folder that can be written, or HOME"
        )
    there = Path(cache)
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "no right to write", str(there))
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ModelNotFoundError(
            f"the download needs {needed / _GB:.2f} GB and {free / _GB:.2f} GB are free in {cache}; free some, or set "
            "HF_HOME to a folder on another disk"
        )


def _cache() -> str:
    from huggingface_hub import constants  # noqa: PLC0415 - as above

    return str(constants.HF_HUB_CACHE)


def _explained(model: str, error: Exception) -> HermesError:
    """Return what `error`, which may be anything that the hub's client raises, means to a user."""
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415 - as above

    if isinstance(error, HermesError):
        return error
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _explained(model, error.__cause__)  # it only says that the cache did not help out
    meaning = _refused(model, error) or _unreachable(model, error) or _broken_off(model, error)
    explained = ModelNotFoundError(meaning)
    explained.__cause__ = error
    return explained


def _refused(model: str, error: Exception) -> str | None:
    """Return what the hub's own answer means."""
    from huggingface_hub import constants, errors  # noqa: PLC0415 - as above

    hub = constants.ENDPOINT
    match error:
        case errors.GatedRepoError():
            return f"{model!r} is gated: accept its licence at {hub}/{model}, then {_LOG_IN}"
        case errors.DisabledRepoError():
            return f"{model!r} is disabled on the hub; use another model, {_ELSEWHERE}"
        case errors.RepositoryNotFoundError() | errors.HFValidationError():
            return (
                f"there is no folder {model!r} here and no such model on the hub {hub}; check the spelling, and if it "
                f"is a private one, {_LOG_IN}"
            )
        case errors.HfHubHTTPError():
            return _failed(model, error.response.status_code)
    return None


def _failed(model: str, status: int) -> str:
    from huggingface_hub import constants  # noqa: PLC0415 - as above

    hub = constants.ENDPOINT
    if status in _NO_RIGHTS:
        return f"the hub {hub} refuses the token that it was sent ({status}); {_LOG_IN}, with rights to {model!r}"
    if status == _TOO_MANY_REQUESTS:
        return f"the hub {hub} answers no more requests for now ({status}); wait some minutes, or {_LOG_IN}"
    return f"{_absent(model)}, and the hub {hub} fails with status {status}; try later, {_ELSEWHERE}"


def _unreachable(model: str, error: Exception) -> str | None:
    """Return why the hub did not answer.

    The client's errors are told by their names: they come from httpx or httpx2, by the version of huggingface_hub.
    """
    from huggingface_hub import constants  # noqa: PLC0415 - as above

    names = {kind.__name__ for kind in type(error).__mro__}
    hub, absent = constants.ENDPOINT, _absent(model)
    if "OfflineModeIsEnabled" in names:
        return f"{absent}, and HF_HUB_OFFLINE is set, so that the hub is not asked; unset it, {_ELSEWHERE}"
    if "ProxyError" in names:
        return f"{absent}, and the proxy refuses ({_detail(error)}); check HTTPS_PROXY and NO_PROXY, {_ELSEWHERE}"
    if "TimeoutException" in names:
        seconds = constants.HF_HUB_ETAG_TIMEOUT
        return (
            f"{absent}, and the hub {hub} cannot be reached: no answer within {seconds} s; check the network and "
            f"HTTPS_PROXY, set HF_HUB_ETAG_TIMEOUT to wait longer, {_ELSEWHERE}"
        )
    if "ConnectError" in names:
        settings = "SSL_CERT_FILE" if "CERTIFICATE" in str(error) else "the network, HTTPS_PROXY and HF_ENDPOINT"
        return f"{absent}, and the hub {hub} cannot be reached ({_detail(error)}); check {settings}, {_ELSEWHERE}"
    return None


def _broken_off(model: str, error: Exception) -> str:
    """Return what ended a download, or an answer that is none of the hub's."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _NO_WRITING:
        named = getattr(error, "filename", None)
        where = f" ({named})" if named and named != _cache() else ""
        return (
            f"{model!r} cannot be downloaded: the cache {_cache()} cannot be written{where}; set HF_HOME to a folder "
            "that can be"
        )
    if number in _NO_SPACE:
        return f"the disk of the cache {_cache()} is full; free some, or set HF_HOME to a folder on another disk"
    return (
        f"{model!r} could not be downloaded: {_detail(error)}; try again, files that are complete are not fetched "
        f"twice, {_ELSEWHERE}"
    )


def _absent(model: str) -> str:
    if _cached(model, CONFIG) is not None:
        return f"the cache {_cache()} holds no weights of {model!r}"
    return f"there is no folder {model!r} here, it is not in the cache {_cache()}"


def _detail(error: Exception) -> str:
    """Return the error in some words of one line."""
    words = " ".join(str(error).split())
    return f"{words[:_LONGEST_DETAIL]}…" if len(words) > _LONGEST_DETAIL else words or type(error).__name__
