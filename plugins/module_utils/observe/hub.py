# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a model's configuration and weight sizes from the Hugging Face Hub, through huggingface_hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model


def read(name: str, revision: str) -> dict[str, Any]:
    """Describe the hub model ``name`` at a branch, tag or commit; ``revision`` of the answer is the commit.

    Raises :class:`InputError` with a sentence when huggingface_hub is missing, when the hub cannot be reached or
    refuses, and when the model has no config.json or no weights.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download
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
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
        config_file = hf_hub_download(name, "config.json", revision=info.sha)
    except GatedRepoError as error:
        raise InputError(f"The hub model {name} is gated: accept its licence on the hub, and log in.") from error
    except RevisionNotFoundError as error:
        raise InputError(f"The hub model {name} has no revision '{revision}'; correct 'revision'.") from error
    except RepositoryNotFoundError as error:
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
        # What huggingface_hub raises in the end is often only that its cache does not have the file either.
        cause = error.__cause__ or error
        first_line = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise InputError(
            f"The hub could not be asked about {name} ({first_line}); check the way from the control node to the hub, "
            "or name a folder in 'model' or 'model_source'."
        ) from error
    config = model.parse_config(Path(config_file).read_text(encoding="utf-8"), f"config.json of {name}")
    size = model.weight_bytes(sizes)
    if size is not None:
        return {**model.facts(config, size), "revision": info.sha}
    raise InputError(f"The hub model {name} has no weights ({', '.join(model.WEIGHTS)}); choose another model.")
