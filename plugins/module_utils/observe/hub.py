# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a model's configuration, weight headers and weight sizes from the Hugging Face Hub, through huggingface_hub.

Where none is given, huggingface_hub finds the token itself (``HF_TOKEN``, ``HF_TOKEN_PATH``, or the file that
``hf auth login`` writes). No sentence holds a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import hub_files, model, model_mistral, redact

# Seconds to wait for the hub to send the header of one file.
HEADER_TIMEOUT = 20
UNAUTHORIZED = 401
PAGES = "https://huggingface.co"
WHERE = "vllm_hf_token (by default HF_TOKEN of the environment)"
# What huggingface_hub takes as token: False for none, None for what it finds.
Shown = Union[str, bool, None]


def read(name: str, revision: str, token: str | None = None) -> dict[str, Any]:
    """Describe the hub model ``name`` at a branch, tag or commit; ``revision`` of the answer is the commit.

    ``files`` of the answer lists what vLLM loads: path, size in bytes, and the digest to check it by, which is
    ``sha256`` for large files and ``blob_id``, git's digest, for the others.

    ``token`` is what is shown to the hub; empty is none at all, None what huggingface_hub finds by itself. Access to
    the files of a gated model is asked for, since what is read here may come from huggingface_hub's own cache.

    Raises :class:`InputError` with a sentence when huggingface_hub is missing, when the hub cannot be reached or
    refuses, and when the model has no config.json or no weights.
    """
    shown = token if token is None else given(token) or False
    with _sentences(name, revision, shown):
        from huggingface_hub import HfApi

        info = HfApi(token=shown).model_info(name, revision=revision, files_metadata=True)
        if info.gated:
            HfApi(token=shown).auth_check(name)
        commit = str(info.sha)
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
        sizes = {file: sibling.size or 0 for file, sibling in siblings.items()}
        file = model_mistral.FILE if "config.json" not in sizes and model_mistral.FILE in sizes else "config.json"
        config = model.model_config(_text(name, file, commit, shown), f"{file} of {name}")
        files = _small_files(name, commit, sizes, config, shown)
        names = model.weight_files(sizes)
        if not names:
            raise InputError(f"The hub model {name} has no weights ({', '.join(model.WEIGHTS)}); choose another model.")
    headers, warnings = _headers(name, commit, names, shown) if file != model_mistral.FILE else (None, [])
    found = model.facts(config, model.weight_bytes(sizes), headers, files)
    return {
        **found,
        "warnings": warnings + model.notes(names) + found["warnings"],
        "revision": commit,
        "files": [_file(siblings[file]) for file in hub_files.loaded(sizes)],
    }


def given(token: str | None) -> str:
    """A token without the white space around it, which a block in a vault has at its end; "" for none.

    Raises :class:`InputError`, without the token, for what no header of HTTP can hold.
    """
    found = str(token or "").strip()
    if found and not re.fullmatch(r"[!-~]+", found):
        raise InputError(
            f"{WHERE} cannot be a token of the hub: it holds white space or characters outside of ASCII. Correct it."
        )
    return found


def _file(sibling: Any) -> dict[str, Any]:
    return {
        "path": sibling.rfilename,
        "size": sibling.size or 0,
        "sha256": sibling.lfs.sha256 if sibling.lfs else None,
        "blob_id": None if sibling.lfs else sibling.blob_id,
    }


def _text(name: str, file: str, commit: str, token: Shown) -> str:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, file, revision=commit, token=token)).read_text(encoding="utf-8", errors="replace")


def _small_files(
    name: str, commit: str, sizes: Mapping[str, int], config: Mapping[str, Any], token: Shown
) -> dict[str, Any]:
    """Fetch the files beside config.json that say something it does not."""
    found: dict[str, Any] = {}
    for file in model.FILES:
        if file in sizes and model.needed(file, config, found):
            found.update(model.small_file(file, _text(name, file, commit, token), f"{file} of {name}"))
    return found


def _headers(
    name: str, commit: str, names: list[str], token: Shown
) -> tuple[dict[str, dict[str, Any]] | None, list[str]]:
    """Read the headers of all safetensors files, several at a time; None when that does not work."""
    if not names[0].endswith(".safetensors"):
        return None, []
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined,unused-ignore]
        HTTPError,
        NotASafetensorsRepoError,
        SafetensorsParsingError,
    )

    try:
        metadata = HfApi(token=token).get_safetensors_metadata(name, revision=commit, timeout=HEADER_TIMEOUT)
    except (HTTPError, OSError, NotASafetensorsRepoError, SafetensorsParsingError) as error:
        return None, [
            f"The headers of the weights of {name} could not be read ({_first_line(error)}), so the bytes of each kind "
            "of weight are computed from config.json and fitted to the size of the files."
        ]
    return {
        tensor: {"dtype": info.dtype, "shape": list(info.shape)}
        for file in metadata.files_metadata.values()
        for tensor, info in file.tensors.items()
    }, []


@contextmanager
def _sentences(name: str, revision: str, token: Shown) -> Iterator[None]:
    """Turn what huggingface_hub raises into sentences for the one who wrote the model's name."""
    try:
        from huggingface_hub.errors import (  # type: ignore[attr-defined,unused-ignore]
            GatedRepoError,
            HFValidationError,
            HTTPError,  # the root of all faults of the HTTP library, whichever one huggingface_hub is built on
            RemoteEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise InputError(
            f"Reading {name} from the hub needs huggingface_hub where model_info runs ({error}); "
            "install this collection's requirements.txt on the control node."
        ) from error
    try:
        yield
    except GatedRepoError as error:
        raise InputError(_gated(name, error, token)) from error
    except RevisionNotFoundError as error:
        raise InputError(f"The hub model {name} has no revision '{revision}'; correct 'revision'.") from error
    except RepositoryNotFoundError as error:
        if _status(error) == UNAUTHORIZED and _has_token(token):
            raise InputError(_refused(name)) from error
        raise InputError(
            f"The hub has no model {name}, or it is private; correct 'model' (a path begins with /)."
        ) from error
    except RemoteEntryNotFoundError as error:
        raise InputError(f"The hub model {name} has no config.json, so vLLM cannot load it.") from error
    except HFValidationError as error:
        raise InputError(
            f"{name} is neither an absolute path nor a hub id such as Qwen/Qwen3-8B; correct 'model'."
        ) from error
    except (HTTPError, OSError) as error:
        if _status(error) == UNAUTHORIZED:
            raise InputError(_refused(name)) from error
        raise InputError(
            f"The hub could not be asked about {name} ({_first_line(error.__cause__ or error)}); check the network "
            "between the control node and the hub, name a folder in 'model' or 'model_source', or, for a plan, write "
            "model_config, the path of a config.json there."
        ) from error


def _refused(name: str) -> str:
    return (
        f"The hub does not accept the token that was used for {name}: it is wrong, expired or revoked, or has no "
        f"access to this model. Make a new one at {PAGES}/settings/tokens and give it in {WHERE}, or none for a public "
        "model."
    )


def _gated(name: str, error: BaseException, token: Shown) -> str:
    page = f"{PAGES}/{name}"
    if not _has_token(token):
        return (
            f"The hub model {name} is gated and no token was given: accept its licence at {page}, and give a token of "
            f"that account in {WHERE}."
        )
    if _status(error) == UNAUTHORIZED:
        return _refused(name)
    said = str(error)
    if "fine-grained" in said:
        return (
            f"The hub model {name} is gated, and the fine-grained token in use does not have the permission to read "
            f"gated repositories: add it at {PAGES}/settings/tokens."
        )
    account = _account(token)
    if "awaiting a review" in said:
        return (
            f"The hub model {name} is gated, and the request of {account} for access awaits the review of its owner: "
            f"see {page}, and run this again when it is granted."
        )
    return (
        f"The hub model {name} is gated, and {account} has not accepted its licence: do so at {page}, logged in with "
        "that account."
    )


def _account(token: Shown) -> str:
    """The account that a token belongs to, in words."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined,unused-ignore]

    try:
        return f"the account {HfApi(token=token).whoami()['name']}"
    except (HTTPError, OSError, KeyError):
        # some tokens may not ask for that
        return "the account of the token in use"


def _has_token(token: Shown) -> bool:
    from huggingface_hub import get_token

    return bool(get_token() if token is None else token)


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _first_line(error: BaseException) -> str:
    # What huggingface_hub raises in the end is often only that its cache does not have the file either.
    # The address of a mirror or a proxy may hold a password.
    text = redact.redacted(str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__
