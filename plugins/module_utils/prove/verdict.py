# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the doctor says of a fault, and the faults that other evidence than a log tells of. Pure.

A verdict has ``id``, ``severity`` (fail, warn or note), ``instance`` (None for one of the host), ``title``, ``cause``,
``evidence`` (lines), ``remedies`` (in the order to try them), ``sources`` and ``help`` (a place of the documentation).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import signature
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import FAIL, NOTE, SEVERITIES, WARN
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signatures_links import P2P

Verdict = dict[str, Any]
PAGE = "docs/troubleshooting.md"


@dataclass(frozen=True)
class Check:
    """A fault that is seen in states and figures; ``cause`` and ``remedies`` may name values ("{name}")."""

    id: str
    title: str
    severity: str
    cause: str
    remedies: tuple[str, ...]


CHECKS: tuple[Check, ...] = (
    Check(
        "unknown_fault",
        "The engine died of a fault that is not in the table",
        FAIL,
        "The first line that matters{by}: {line}",
        (
            "Read what is around that line: journalctl -u {unit}. Search vLLM's issues for its words.",
            "Try enforce-eager: true in extra_args, or another engine_version, to see whether it goes away.",
        ),
    ),
    Check(
        "unit_failed",
        "The unit failed",
        FAIL,
        "{unit} is failed ({result}), and its journal has no line that says why.",
        (
            "Read its journal: journalctl -u {unit}.",
            "Run deploy.yml, which starts it and shows what it says.",
        ),
    ),
    Check(
        "unit_restarting",
        "The unit dies and is started again",
        FAIL,
        "{unit} has been restarted {restarts} times and does not serve.",
        ("Read its journal: journalctl -u {unit}.",),
    ),
    Check(
        "unit_stopped",
        "The instance is stopped",
        FAIL,
        "{unit} is enabled and does not run: somebody stopped it, or it ended and was not to be restarted.",
        ("systemctl start {unit}, or run deploy.yml.", "systemctl disable {unit}, if it is not wanted any more."),
    ),
    Check(
        "not_installed",
        "Settings without a unit",
        FAIL,
        "/etc/vllm has settings of {instance}, and systemd knows no {unit}.",
        ("Run deploy.yml.", "Remove the settings, if the instance is not wanted any more."),
    ),
    Check(
        "settings_gone",
        "An instance without settings",
        FAIL,
        "There is a receipt of {instance} and no /etc/vllm/{instance}.yaml, so that the unit cannot be started again.",
        ("Run deploy.yml, which writes it.", "Remove the receipt, if the instance is not wanted any more."),
    ),
    Check(
        "restarted",
        "The engine was restarted by systemd",
        WARN,
        "systemd has restarted {unit} {restarts} times, the last time {age} ago: it serves, and it died before.",
        ("See why: journalctl -u {unit}, before the last line 'Starting'.", "Watch whether it comes again."),
    ),
    Check(
        "daemon_reload",
        "A changed unit was not read",
        WARN,
        "Files of {unit} changed since systemd read them.",
        ("systemctl daemon-reload, then restart the instance when it can be.", "Or run deploy.yml."),
    ),
    Check(
        "engine_stalled",
        "The engine does not come up",
        FAIL,
        "{unit} runs for {age} and does not answer, and has said nothing for {silence}: a rank hangs, most often in "
        "the "
        "first exchange between GPUs.",
        (
            "See the last line (evidence): downloads and the compilation of a large model take minutes too.",
            *P2P,
        ),
    ),
    Check(
        "unhealthy",
        "The server says that it is not well",
        FAIL,
        "/health answers {status}: the engine behind the server is dead.",
        ("Read the journal for the fault that ended it.", "systemctl restart {unit}."),
    ),
    Check(
        "no_answer",
        "The server does not answer any more",
        FAIL,
        "{unit} has served (it has a receipt), and /health gives no answer now: {problem}.",
        (
            "See whether a rank hangs: GPUs at 100 % without requests, Xid in the kernel's log.",
            "systemctl restart {unit}.",
        ),
    ),
    Check(
        "does_not_serve",
        "Healthy, and no request is answered",
        FAIL,
        "/health says that it is well, and a short request failed: {problem}.",
        (
            "Read the journal for the fault of the engine.",
            "systemctl restart {unit}, and run deploy.yml, whose warm-up tries each kind of request.",
        ),
    ),
    Check(
        "wrong_model",
        "Another model answers",
        FAIL,
        "Port {port} offers {offered} and not {wanted}.",
        (
            "See who listens there (ss -ltnp): an engine that was started by hand.",
            "Restart {unit}, if its settings were changed since.",
        ),
    ),
    Check(
        "wrong_length",
        "Another length than asked for",
        WARN,
        "The server offers max_model_len {length}, and the settings say {wanted}.",
        ("Run deploy.yml, which restarts the instance with its settings.",),
    ),
    Check(
        "port_held",
        "Another program holds the port",
        FAIL,
        "{who} listens on port {port} of {instance}, whose own process does not run.",
        ("Stop that program.", "Give the instance another port, and run deploy.yml."),
    ),
    Check(
        "not_warmed_up",
        "Not warmed up since it was started",
        WARN,
        "The receipt is of another process: the engine was restarted since, and its first requests will be slow.",
        ("Run deploy.yml: it warms up what was restarted, and changes nothing else.",),
    ),
    Check(
        "never_warmed_up",
        "Never warmed up",
        WARN,
        "There is no receipt: nobody has seen this instance answer, and its first requests will be slow.",
        ("Run deploy.yml to its end.",),
    ),
    Check(
        "receipt_damaged",
        "The receipt cannot be read",
        WARN,
        "/var/lib/vllm/receipts/{instance}.json is damaged, or of another version of this collection.",
        ("Remove it and run deploy.yml, which writes it anew.",),
    ),
    Check(
        "prediction_off",
        "The plan was off",
        WARN,
        "{quantity} was predicted as {predicted} and is {actual} ({percent}).",
        (
            "See whether something else holds memory of a GPU of the group: the poorest one decides (a display too).",
            "Run calibrate.yml over the fleet, and give its corrections to plan.yml.",
        ),
    ),
    Check(
        "model_missing",
        "The model is not on the host",
        FAIL,
        "The path of model, {path}, does not exist.",
        (
            "See whether its disk is mounted.",
            "Correct model, or run deploy.yml, which copies or fetches it.",
        ),
    ),
    Check(
        "model_incomplete",
        "The model is not whole",
        FAIL,
        "{path} lacks {missing}. A running engine does not notice; the next start fails.",
        ("Run deploy.yml: it fetches or copies what is missing.", "Compare the folder with its source."),
    ),
    Check(
        "credential_gone",
        "The token of the unit is gone",
        FAIL,
        "{unit} is given the hub's token by a drop-in, and the file of the token does not exist: the next start fails.",
        ("Run deploy.yml with vllm_hf_token.",),
    ),
    Check(
        "no_token",
        "Online without a token",
        NOTE,
        "{instance} may ask the hub (HF_HUB_OFFLINE=0) and has no token: gated models are refused to it, and limits "
        "are low.",
        ("Set vllm_hf_token, if the model is gated.",),
    ),
    Check(
        "uneven_gpus",
        "The ranks of an instance use their GPUs unevenly",
        WARN,
        "{what}",
        (
            "See whether another program holds memory of the fuller GPU (nvidia-smi).",
            "A GPU at 0 % while the others compute is a hang: see the fault 'A collective operation timed out'.",
            "With pipeline_parallel_size give the stages the same work (VLLM_PP_LAYER_PARTITION); replicas get the "
            "same "
            "traffic from a gateway.",
            "Name GPUs of one kind and one NUMA node in gpus.",
        ),
    ),
    Check(
        "ranks_over_sockets",
        "An instance is spread over processors without need",
        WARN,
        "Its GPUs {gpus} hang on NUMA nodes {nodes}, have no NVLink between them, and would fit one node.",
        ("Name GPUs of one NUMA node in gpus (nvidia-smi topo -m), or leave gpus: auto to the planner.",),
    ),
    Check(
        "disk_almost_full",
        "A disk is almost full",
        WARN,
        "{path} has {free} MiB of {total} MiB left.",
        (
            "Remove what is not needed: models and releases that no instance uses, the journal (journalctl "
            "--vacuum-size).",
            "Move model_hub_cache or engine_root to a larger disk.",
        ),
    ),
    Check(
        "inodes_almost_used",
        "A disk has almost no inodes left",
        WARN,
        "{path} has {free} inodes left: files cannot be made there, whatever space is free.",
        (
            "See which folder has so many files: du --inodes -x -d 3 {path} | sort -n | tail.",
            "Remove releases and compile caches that no instance uses, or use a file system without that limit (XFS).",
        ),
    ),
    Check(
        "shm_almost_full",
        "The shared memory is almost full",
        WARN,
        "{path} has {free} MiB of {total} MiB left; the next engine that starts may find no room.",
        (
            "Remove what dead engines left there (ls -l /dev/shm), when no engine runs.",
            "mount -o remount,size=8G /dev/shm.",
        ),
    ),
    Check(
        "compiler_missing",
        "The host has no C compiler",
        WARN,
        "Triton and Inductor compile programs when an engine starts, and the service's PATH has no gcc, cc or clang.",
        ("Run deploy.yml (the role engine installs it), or install gcc and g++.",),
    ),
    Check(
        "release_gone",
        "The release of an instance is gone",
        FAIL,
        "{path}, which the unit starts, is not there: the next start fails.",
        ("Run deploy.yml, which installs the release and sets the link.",),
    ),
    Check(
        "clock_not_synchronized",
        "The clock is not kept",
        WARN,
        "Nothing keeps the clock of this host in time, so that logs of several hosts cannot be read together and "
        "certificates may seem invalid.",
        ("Run chrony or systemd-timesyncd.",),
    ),
    Check(
        "clock_differs",
        "The clock is wrong",
        WARN,
        "The clock of this host differs by at least {seconds} s from that of the control node.",
        ("Run chrony or systemd-timesyncd on both.",),
    ),
    Check(
        "late",
        "A step of the doctor got no answer",
        WARN,
        "{what}.",
        ("See whether a disk or a server hangs (dmesg; ps for processes in state D).",),
    ),
    Check(
        "different_releases",
        "Replicas run different releases",
        WARN,
        "{instance} runs {own} here and {others} elsewhere: answers and speed differ.",
        ("Run deploy.yml over all of them with one engine_version.",),
    ),
    Check(
        "different_models",
        "Replicas serve different models under one name",
        FAIL,
        "{instance} serves {own} here and {others} elsewhere.",
        ("Give all of them the same model and revision (a commit), and run deploy.yml.",),
    ),
)
BY_ID = {check.id: check for check in CHECKS}


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return f"#{kept.replace(' ', '-')}"


def help_on(title: str) -> str:
    """Where the page of troubles tells more."""
    return f"{PAGE}{anchor(title)}"


def of_check(name: str, instance: str | None, evidence: Iterable[str] = (), **values: Any) -> Verdict:
    """A verdict of one of :data:`CHECKS`."""
    check = BY_ID[name]
    groups = {key: str(value) for key, value in values.items()}
    if instance:
        groups = {"instance": instance, "unit": f"vllm@{instance}.service", **groups}
    return {
        "id": check.id,
        "severity": check.severity,
        "instance": instance,
        "title": check.title,
        "cause": signature.said(check.cause, groups),
        "evidence": [signature.shortened(line) for line in evidence],
        "remedies": [signature.said(remedy, groups) for remedy in check.remedies],
        "sources": [],
        "help": help_on(check.title),
    }


def of_match(
    match: signature.Match,
    instance: str | None,
    evidence: Sequence[str] = (),
    known: Mapping[str, str] | None = None,
) -> Verdict:
    """A verdict of a signature that was found; ``known`` are values that the lines need not say."""
    own = {"instance": instance, "unit": f"vllm@{instance}.service"} if instance else {}
    match = replace(
        match, groups={**own, **{name: text for name, text in (known or {}).items() if text}, **match.groups}
    )
    return {
        "id": match.signature.id,
        "severity": match.signature.severity,
        "instance": instance,
        "title": match.signature.title,
        "cause": match.cause,
        "evidence": [*match.lines, *(signature.shortened(line) for line in evidence if line not in match.lines)],
        "remedies": match.remedies,
        "sources": list(match.signature.sources),
        "help": help_on(match.signature.title),
    }


def in_order(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The worst first; of one severity those of the host first, then by instance, as they were found."""
    return sorted(verdicts, key=lambda one: (SEVERITIES.index(one["severity"]), one["instance"] or ""))
