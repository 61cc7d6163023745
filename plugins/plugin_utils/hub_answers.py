# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask the hub once in a run what many hosts want to know: which files a model has, and what they are.

Each task of each host is a process of its own, so that the answers lie in files: in the folder that Ansible makes for
one run, which only its user reads and which goes with the run. Whoever comes while another one asks waits for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible import constants

# How long a failure is believed: hosts that waited for it do not ask again one after the other, and a later task does.
SECONDS_TO_BELIEVE_FAILURE = 60


def asked_once(
    question: Mapping[str, Any], ask: Callable[[], dict[str, Any]], failed: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return the answer to a question, which is asked unless it was in this run.

    ``question`` is all that the answer depends on, the token and the proxies among it; what is kept under its digest is
    the answer alone.
    """
    text = json.dumps(question, sort_keys=True, default=str)
    folder = Path(constants.DEFAULT_LOCAL_TMP) / "gpufleet-hub"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        known = _read(stream.read())
        if known is not None and (not known["failed"] or time.time() - known["time"] < SECONDS_TO_BELIEVE_FAILURE):
            return dict(known["answer"])
        answer = ask()
        stream.seek(0)
        stream.truncate()
        json.dump({"answer": answer, "failed": failed(answer), "time": time.time()}, stream)
        return answer


def _read(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
