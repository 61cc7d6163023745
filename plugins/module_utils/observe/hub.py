# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a model's configuration and weight sizes from the Hugging Face Hub, through huggingface_hub."""

from __future__ import annotations

import fnmatch
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
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
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
    except EntryNotFoundError as error:
        raise InputError(f"The hub model {name} has no config.json, so vLLM cannot load it.") from error
    except (HfHubHTTPError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"The hub could not be asked about {name} ({first_line}); check the way from the control node to the hub, "
            "or name a folder in 'model' or 'model_source'."
        ) from error
    config = model.parse_config(Path(config_file).read_text(encoding="utf-8"), f"config.json of {name}")
    for pattern in model.WEIGHTS:
        weights = [size for file, size in sizes.items() if fnmatch.fnmatch(file, pattern)]
        if weights:
            return {**model.facts(config, sum(weights)), "revision": info.sha}
    raise InputError(f"The hub model {name} has no weights ({', '.join(model.WEIGHTS)}); choose another model.")
