# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with an instance, from the evidence of its host. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.text import is_whole
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import fault, journal, receipt, signature
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.verdict import Verdict, of_check

# An engine that says nothing for so long hangs; loading, compiling and capturing say something more often.
SILENT_SECONDS = 600
# A restart that is older says nothing of today.
RECENT_SECONDS = 86400
OK = 200
# GPUs of one group differ by this share of their memory when something else holds part of it.
UNEVEN_SHARE = 0.2
# vLLM's wheels of CUDA 13 have code for GPUs from here on (vLLM 0.33, CMakeLists.txt, CUDA_SUPPORTED_ARCHS).
LEAST_CAPABILITY = 7.5
# Below, a GPU does nothing; above, it computes.
IDLE_PERCENT, BUSY_PERCENT = 5, 60


def instance(one: Mapping[str, Any], host: Mapping[str, Any]) -> list[Verdict]:
    """Judge an instance; ``host`` is all of the evidence."""
    if not one.get("unit") and "settings" not in one:
        # a recording that holds only a journal
        return _of_journal(one, start_of(one, 1))
    state = State(one, host)
    return [
        *_unit(state),
        *_server(state),
        *_receipt(state),
        *_files(state),
        *_check(state),
        *_gpus(state),
    ]


class State:
    """An instance, and what its unit is doing."""

    def __init__(self, one: Mapping[str, Any], host: Mapping[str, Any]) -> None:
        self.one, self.host = one, host
        self.name: str = one["name"]
        unit = one.get("unit") or {}
        self.unit = unit
        self.active = unit.get("ActiveState") in ("active", "activating", "reloading")
        self.failed = unit.get("ActiveState") == "failed"
        self.restarting = unit.get("SubState") == "auto-restart"
        restarts = str(unit.get("NRestarts") or "")
        self.restarts = int(restarts) if restarts.isascii() and restarts.isdigit() else 0
        self.server: Mapping[str, Any] = one.get("server") or {}
        self.healthy = self.server.get("health") == OK or (
            self.active and (one.get("settings") or {}).get("headless") == "true"
        )
        process = one.get("process") or {}
        started, now = process.get("started"), host.get("monotonic")
        self.age = now - started if started and now else None

    def silence(self) -> float | None:
        """Seconds since the engine last said something."""
        last, now = self.one["journal"].get("last"), self.host.get("now")
        return now - last if last and now else self.age

    def lines(self) -> list[str]:
        """Lines of the journal that say what is so now: of the start that runs, or of the last that died."""
        # the start that runs may have had no time to say why the one before it died
        again = (self.restarting or self.restarts) and not self.healthy
        return fault.of_last_death([start_of(self.one, number) for number in ((2, 1) if again else (1,))])


def start_of(one: Mapping[str, Any], number: int) -> list[str]:
    """One of the last starts in the journal of an instance, without what an engine says that is told to end."""
    parts = journal.starts(one["journal"]["lines"], one["name"])
    lines = []
    stopping = False
    for line in parts[-number] if number <= len(parts) else ():
        if line.startswith(("Stopping ", "Starting ")) and line.rstrip().endswith("..."):
            stopping = line.startswith("Stopping ")
        # an engine that is stopped well says that its core died; systemd still tells what matters
        if not stopping or line.startswith("vllm@"):
            lines.append(line)
    return lines


def words(seconds: float | None) -> str:
    """A time in a word or two."""
    if seconds is None:
        return "some time"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _of_journal(one: Mapping[str, Any], lines: Sequence[str]) -> list[Verdict]:
    """What the lines tell of, the failure first."""
    settings = one.get("settings") or {}
    known = {
        "port": settings.get("port", "8000"),
        "host": settings.get("host", ""),
        "model_path": settings.get("model", ""),
    }
    return fault.verdicts(lines, one["name"], known)


def _with_gpus(verdict: Verdict, host: Mapping[str, Any]) -> Verdict:
    """One text has two causes, which the host's GPUs tell apart: they are newer than the release, or too old for it."""
    if verdict["id"] != "no_kernel_for_gpu":
        return verdict
    devices = (host.get("gpu_facts") or {}).get("devices") or []
    known = sorted({str(one["compute_capability"]) for one in devices if one.get("compute_capability")}, key=_number)
    if not known:
        return verdict
    see, newer, older = verdict["remedies"]
    old = _number(known[0]) < LEAST_CAPABILITY
    return {
        **verdict,
        "evidence": [*verdict["evidence"], f"GPUs: compute capability {', '.join(known)}"],
        "remedies": [older if old else newer, see],
    }


def _number(capability: str) -> float:
    try:
        return float(capability)
    except ValueError:
        return 0.0


def _unit(state: State) -> list[Verdict]:
    one, name = state.one, state.name
    told = [_with_gpus(verdict, state.host) for verdict in _of_journal(one, state.lines())]
    if state.healthy:
        # it serves, so that what it overcame is history
        found = [verdict for verdict in told if verdict["severity"] != signature.FAIL]
        if state.restarts and (state.age is None or state.age < RECENT_SECONDS):
            before = _of_journal(one, start_of(one, 2))
            evidence_lines = [line for verdict in before for line in verdict["evidence"]][:3]
            found.append(of_check("restarted", name, evidence_lines, restarts=state.restarts, age=words(state.age)))
        if state.unit.get("NeedDaemonReload") == "yes":
            found.append(of_check("daemon_reload", name, ["systemctl show: NeedDaemonReload=yes"]))
        return found
    if state.unit.get("LoadState") not in (None, "loaded"):
        return [of_check("not_installed", name, [f"systemctl show: LoadState={state.unit['LoadState']}"])]
    fails = [verdict for verdict in told if verdict["severity"] == signature.FAIL]
    shown = _state_line(state)
    if state.failed or state.restarting or (state.restarts and state.active):
        if fails:
            fails[0]["evidence"].append(shown)
            return [*fails, *(verdict for verdict in told if verdict not in fails)]
        last = journal.telling(state.lines(), 5)
        return [
            of_check(
                "unit_failed" if state.failed else "unit_restarting",
                name,
                [*last, shown],
                result=state.unit.get("Result"),
                restarts=state.restarts,
            )
        ]
    if not state.active:
        return [*_stopped(state, fails, shown), *(verdict for verdict in told if verdict not in fails)]
    # It loads. What it says until now may be a warning; of a fault the process ends, and the unit with it.
    return [verdict for verdict in told if verdict["severity"] != signature.FAIL]


def _state_line(state: State) -> str:
    unit = state.unit
    return (
        f"systemd: {unit.get('ActiveState')} ({unit.get('SubState')}), result {unit.get('Result')}, restarts "
        f"{state.restarts}"
    )


def _stopped(state: State, fails: list[Verdict], shown: str) -> list[Verdict]:
    settings = state.one.get("settings") or {}
    # without settings the port is not known
    holder = state.one.get("listener") if settings else None
    port = settings.get("port", 8000)
    found = list(fails)
    if holder:
        who = f"{holder.get('process')} (pid {holder.get('pid')}, {holder.get('unit') or 'no unit'})"
        found.append(of_check("port_held", state.name, [shown], who=who, port=port))
    if not found and state.unit.get("UnitFileState") in ("enabled", "enabled-runtime"):
        found.append(of_check("unit_stopped", state.name, [shown]))
    return found


def _server(state: State) -> list[Verdict]:
    server, name = state.server, state.name
    if not state.active or state.restarting or not server:
        return []
    if server.get("health") is None:
        silence = state.silence()
        if receipt.is_of(state.one.get("receipt"), state.one.get("process")):
            return [of_check("no_answer", name, [_state_line(state)], problem=server.get("problem"))]
        if state.age is not None and silence is not None and min(state.age, silence) >= SILENT_SECONDS:
            last = journal.telling(state.lines(), 3)
            return [of_check("engine_stalled", name, last, age=words(state.age), silence=words(silence))]
        return []
    if server["health"] != OK:
        return [of_check("unhealthy", name, journal.telling(state.lines(), 3), status=server["health"])]
    return [*_models(state), *_request(state)]


def _models(state: State) -> list[Verdict]:
    models = state.server.get("models") or {}
    if models.get("status") != OK:
        return []
    offered: Mapping[str, Any] = models["offered"]
    settings = state.one.get("settings") or {}
    wanted = settings.get("served-model-name") or state.name
    lines = [f"/v1/models: {', '.join(offered) or 'nothing'}"]
    if wanted not in offered:
        shown = ", ".join(offered) or "nothing"
        return [
            of_check("wrong_model", state.name, lines, port=settings.get("port", 8000), offered=shown, wanted=wanted)
        ]
    length = settings.get("max-model-len")
    if length and is_whole(length) and offered[wanted] not in (None, int(length)):
        return [of_check("wrong_length", state.name, lines, length=offered[wanted], wanted=length)]
    return []


def _request(state: State) -> list[Verdict]:
    asked = state.server.get("request")
    if not asked or not asked.get("problem"):
        return []
    why = journal.reason(state.lines())
    lines = [f"after {asked['seconds']} s: {asked['problem']}", *([why] if why else [])]
    return [of_check("does_not_serve", state.name, lines, problem=asked["problem"])]


def _receipt(state: State) -> list[Verdict]:
    one, name = state.one, state.name
    if one.get("receipt_damaged"):
        return [of_check("receipt_damaged", name, [f"/var/lib/vllm/receipts/{name}.json: no JSON of this version"])]
    old = one.get("receipt")
    if not old:
        return [of_check("never_warmed_up", name, ["/health: 200, no receipt"])] if state.healthy else []
    found = []
    if state.healthy and not receipt.is_of(old, one.get("process")):
        told = old.get("process") or {}
        lines = [
            f"receipt of {old.get('time')}: pid {told.get('pid')}; runs: pid {(one.get('process') or {}).get('pid')}"
        ]
        found.append(of_check("not_warmed_up", name, lines))
    for entry in receipt.comparison(old):
        if entry.get("beyond"):
            found.append(
                of_check(
                    "prediction_off",
                    name,
                    [f"receipt of {old.get('time')}: {entry}"],
                    quantity=entry["quantity"],
                    predicted=f"{entry['predicted']:g}",
                    actual=f"{entry['actual']:g}",
                    percent=f"{entry['ratio'] - 1:+.0%}",
                )
            )
    return found


def _files(state: State) -> list[Verdict]:
    one, name = state.one, state.name
    found = []
    if not one.get("has_settings", True):
        found.append(of_check("settings_gone", name, [f"/etc/vllm/{name}.yaml: not there"]))
    elif not one.get("release_there", True) and not (state.healthy and "program" not in one):
        # recordings without a program have looked at one place only, which need not be the host's
        program = one.get("program") or f"/opt/vllm/instances/{name}/bin/vllm"
        found.append(of_check("release_gone", name, [f"{program}: not there"], path=program))
    model = one.get("model") or {}
    if model.get("state") == "missing":
        found.append(of_check("model_missing", name, [f"{model['path']}: not there"], path=model["path"]))
    if model.get("state") == "incomplete":
        missing = ", ".join(model["missing"][:4])
        found.append(
            of_check("model_incomplete", name, [f"{model['path']}: {missing}"], path=model["path"], missing=missing)
        )
    given = "hf_token.conf" in (state.unit.get("DropInPaths") or "")
    tokens = state.host.get("tokens") or []
    if given and not tokens:
        found.append(of_check("credential_gone", name, [f"drop-in: {state.unit['DropInPaths']}"]))
    elif one.get("online") and not tokens:
        found.append(of_check("no_token", name, ["HF_HUB_OFFLINE=0 in its environment"]))
    return found


def _check(state: State) -> list[Verdict]:
    """What the role nccl_check found the last time."""
    record = state.one.get("check") or {}
    found = []
    for one in record.get("findings") or []:
        if one.get("severity") in (signature.FAIL, signature.WARN):
            found.append(
                {
                    "id": f"nccl_check_{one.get('id')}",
                    "severity": one["severity"],
                    "instance": state.name,
                    "title": "The check of the links failed",
                    "cause": f"{one.get('cause')}.",
                    "evidence": [signature.shortened(str(line)) for line in one.get("evidence") or ["role nccl_check"]],
                    "remedies": [f"{str(text)[:1].upper()}{str(text)[1:]}." for text in one.get("remedies") or []],
                    "sources": ["role nccl_check"],
                    "help": "roles/nccl_check/README.md",
                }
            )
    return found


def _gpus(state: State) -> list[Verdict]:
    """Whether the ranks use their GPUs alike, and lie where they should."""
    pids = set(state.one.get("pids") or ())
    facts = state.host.get("gpu_facts") or {}
    devices = [
        device
        for device in facts.get("devices") or []
        if any(process.get("pid") in pids for process in device.get("processes") or [])
    ]
    if len(devices) < 2:
        return []
    return [*_uneven(state, devices), *_sockets(state, devices, facts)]


def _uneven(state: State, devices: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    used = {one["index"]: one.get("memory_used_mib") for one in devices}
    busy = {one["index"]: one.get("utilization_percent") for one in devices}
    lines = [
        f"GPU {one['index']}: {one.get('memory_used_mib')} MiB, {one.get('utilization_percent')} %" for one in devices
    ]
    amounts = [amount for amount in used.values() if amount]
    if len(amounts) == len(devices) and min(amounts) < max(amounts) * (1 - UNEVEN_SHARE):
        fullest = max(used, key=lambda index: used[index] or 0)
        what = (
            f"Its GPUs hold between {min(amounts)} and {max(amounts)} MiB (GPU {fullest} the most); the fullest "
            "decides "
            "how much KV cache all of them get."
        )
        return [of_check("uneven_gpus", state.name, lines, what=what)]
    running = (state.server.get("load") or {}).get("running")
    shares = [share for share in busy.values() if share is not None]
    if running and len(shares) == len(devices) and min(shares) <= IDLE_PERCENT and max(shares) >= BUSY_PERCENT:
        idle = [f"GPU {index}" for index, share in busy.items() if share is not None and share <= IDLE_PERCENT]
        what = f"{running} requests run, and {', '.join(idle)} computes nothing while others are at {max(shares)} %."
        return [of_check("uneven_gpus", state.name, lines, what=what)]
    return []


def _sockets(state: State, devices: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[Verdict]:
    nodes = {one.get("numa_node") for one in devices}
    if len(nodes) < 2 or None in nodes or str(facts.get("interconnect") or "").startswith("nv"):
        return []
    everywhere = [one.get("numa_node") for one in facts["devices"]]
    if not any(everywhere.count(node) >= len(devices) for node in set(everywhere)):
        return []
    lines = [f"GPU {one['index']}: NUMA node {one['numa_node']}" for one in devices]
    gpus = ", ".join(str(one["index"]) for one in devices)
    return [
        of_check("ranks_over_sockets", state.name, lines, gpus=gpus, nodes=", ".join(map(str, sorted(nodes, key=str))))
    ]
