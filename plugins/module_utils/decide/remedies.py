# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep only remedies that help: apply each to the entry, decide again, and combine those that help together. Pure.

A remedy that a program can apply reads "write FIELD: VALUE", "write FIELD: VALUE or VALUE" or "leave FIELD out". All
others (another host, another checkpoint) are passed on as they are.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instance_fields import FIELDS, good
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused

# How often a refused entry is decided again at most, and how many remedies are combined.
MOST_TRIES = 12
MOST_TOGETHER = 3
NOT_TRIED = "not_tried"
# Fields that say the same in two units: one of them is written.
SAME = {"kv_cache_memory_gib": "kv_cache_memory_bytes"}
WRITE = re.compile(r"write '?(\w+): ([\w.]+(?:(?:, | or )[\d.]+)*)'?(?P<rest>$|[ ,(].*)")
LEAVE = re.compile(r"(?:leave|take) '?(\w+)'? out\b.*")
# What `said` writes of several changes
JOINED = re.compile(r"(?:write (\w+: [\w.]+(?: and \w+: [\w.]+)*))?(?: and )?(?:leave (\w+(?: and \w+)*) out)?")
WRITTEN = re.compile(r"\w+: [\w.]+")
# What a person may have written that another layout does without, in the order in which it is given up.
GIVEN_UP = (
    "decode_context_parallel_size",
    "enable_expert_parallel",
    "block_size",
    "kv_cache_memory_gib",
    "kv_cache_memory_bytes",
    "max_cudagraph_capture_size",
    "max_num_batched_tokens",
    "max_num_seqs",
    "quantization",
    "kv_cache_dtype",
    "dtype",
    "pipeline_parallel_size",
    "data_parallel_size",
    "tensor_parallel_size",
    "gpus",
    "cpu_offload_gb",
    "gpu_memory_utilization",
    "min_concurrency",
    "max_model_len",
)
SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "decode_context_parallel_size", "gpus")
DEFAULTS: Mapping[str, Any] = {
    field.name: field.default for field in dataclasses.fields(Instance) if field.default is not dataclasses.MISSING
}

# Decides an entry again; None where it is not refused.
Again = Callable[[Instance], Optional[Refused]]
Changes = Mapping[str, Any]


@dataclasses.dataclass
class _Tries:
    """Decides entries again, each once, and not too often."""

    instance: Instance
    again: Again
    left: int = MOST_TRIES
    known: dict[str, Refused | None] = dataclasses.field(default_factory=dict)

    def refused(self, changes: Changes) -> Refused | None:
        """Why an entry with these changes is refused; None where it is not."""
        key = repr(sorted(changes.items(), key=lambda one: one[0]))
        if key not in self.known:
            if self.left <= 0:
                return Refused("it was not tried", NOT_TRIED)
            self.left -= 1
            self.known[key] = self.again(dataclasses.replace(self.instance, **changes))
        return self.known[key]


def checked(instance: Instance, refused: Refused, again: Again) -> Refused:
    """Return the refusal with remedies of which each that can be applied was seen to help, the first one best."""
    tries = _Tries(instance, again)
    helps: list[str] = []
    for text in refused.remedies:
        options = list(changes(instance, text))
        found = next((one for one in options if tries.refused(one) is None), None)
        if found is not None:
            helps.append(text if len(options) == 1 and len(found) == 1 else said(found))
        elif not options and len(refused.faults) < 2:
            helps.append(text)
    if not applicable(helps, instance):
        together = _together(tries, refused) or _given_up(tries)
        if together:
            helps.insert(0, said(together))
    if not helps:
        return _what_is_left(tries, refused)
    return Refused(refused.reason, refused.rule, tuple(dict.fromkeys(helps)))


def _what_is_left(tries: _Tries, refused: Refused) -> Refused:
    """Say what is left to people after the remedies that a program can apply, where these are not enough."""
    done: Changes = {}
    left = refused
    for _ in range(MOST_TOGETHER):
        following = next(_steps(tries, done, left), None)
        if following is None:
            break
        done, left = following
    # who looks for another host or another model does better without a size that was meant for these GPUs
    opened = {**done, **{name: DEFAULTS[name] for name in done if name in SIZES}}
    alike = tries.refused(opened) if opened != done else None
    if alike and _rules(alike) == _rules(left):
        done, left = opened, alike
    reason, for_people = refused.reason, _for_people(tries.instance, left)
    if not _rules(left) & _rules(refused):
        reason += f"; besides, {left.reason}"
    # what people do comes first: a program that applied the rest alone would be refused again
    texts = [", and ".join(filter(None, (text, said(done)))) for text in for_people]
    return Refused(reason, refused.rule, texts)


def _steps(tries: _Tries, done: Changes, why: Refused) -> Iterator[tuple[Changes, Refused]]:
    """Give the remedies that mend something: fewer faults are left, or others that were not seen for these."""
    for text in why.remedies:
        for change in changes(dataclasses.replace(tries.instance, **done), text):
            left = None if set(change) & set(done) else tries.refused({**done, **change})
            if left is None or left.rule == NOT_TRIED:
                continue
            before, after = _rules(why), _rules(left)
            if after < before or not after & before:
                yield {**done, **change}, left


def _rules(refused: Refused) -> set[str]:
    return {one.rule for one in refused.faults} or {refused.rule}


def _for_people(instance: Instance, refused: Refused) -> tuple[str, ...]:
    """What people may do: where several things are wrong, what mends all of them, or one thing for each."""
    faults = refused.faults or (refused,)
    each = [[text for text in one.remedies if next(changes(instance, text), None) is None] for one in faults]
    every = tuple(text for text in each[0] if all(text in others for others in each))
    if every or not all(each):
        return every
    return (" and ".join(dict.fromkeys(texts[0] for texts in each)),)


def changes(instance: Instance, text: str) -> Iterator[dict[str, Any]]:
    """Read what a remedy changes of an entry: one change for each value that it names. None where it is for people."""
    joined = JOINED.fullmatch(text)
    if joined:
        parts = [f"write {part}" for part in WRITTEN.findall(joined[1] or "")]
        parts += [f"leave {name} out" for name in re.split(" and ", joined[2])] if joined[2] else []
        if len(parts) > 1:
            found = [next(changes(instance, part), None) for part in parts]
            if None not in found:
                yield {name: value for one in found if one for name, value in one.items()}
            return
    written = WRITE.fullmatch(text)
    if written and written[1] in FIELDS and written[1] in DEFAULTS:
        for word in re.split(r", | or ", written[2]):
            value = _value(word)
            if good(written[1], value):
                other = SAME.get(written[1])
                also = {other: None} if other and getattr(instance, other) is not None else {}
                yield {written[1]: None if value == "auto" and DEFAULTS[written[1]] is None else value, **also}
        return
    left = LEAVE.fullmatch(text)
    if left and left[1] in DEFAULTS and getattr(instance, left[1]) != DEFAULTS[left[1]]:
        yield {left[1]: DEFAULTS[left[1]]}


def _value(word: str) -> Any:
    if word in ("true", "false"):
        return word == "true"
    if re.fullmatch(r"\d+", word):
        return int(word)
    return float(word) if re.fullmatch(r"\d*\.\d+", word) else word


def said(change: Changes) -> str:
    """Write changes as a remedy."""
    left = [name for name in change if change[name] == DEFAULTS.get(name)]
    written = [f"{name}: {_written(value)}" for name, value in change.items() if name not in left]
    parts = [f"write {' and '.join(written)}"] if written else []
    parts += [f"leave {' and '.join(left)} out"] if left else []
    return " and ".join(parts)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _together(tries: _Tries, refused: Refused) -> Changes | None:
    """Search for the fewest remedies that help together: each is one of what is left after those before."""
    waiting: list[tuple[Changes, Refused]] = [({}, refused)]
    for _ in range(MOST_TOGETHER):
        after: list[tuple[Changes, Refused]] = []
        for before, why in waiting:
            for text in why.remedies:
                for change in changes(dataclasses.replace(tries.instance, **before), text):
                    if set(change) & set(before):
                        continue
                    both = {**before, **change}
                    left = tries.refused(both)
                    if left is None:
                        return both
                    after.append((both, left))
        waiting = after
    return None


def _given_up(tries: _Tries) -> Changes | None:
    """Search for what of the entry has to go: one field, all sizes, then one more at a time."""
    instance = tries.instance
    kept = ("gpu_memory_utilization",) if instance.shared_gpus else ()
    written = [name for name in GIVEN_UP if getattr(instance, name) != DEFAULTS[name] and name not in kept]
    sizes = {name: DEFAULTS[name] for name in written if name in SIZES}
    tried: list[Changes] = [{name: DEFAULTS[name]} for name in written]
    tried += [sizes] if len(sizes) > 1 else []
    growing: dict[str, Any] = {}
    for name in written:
        growing = {**growing, name: DEFAULTS[name]}
        tried.append(growing)
    # there have to be some tries left for these, however many were spent before
    tries.left = max(tries.left, MOST_TRIES // 2)
    found = next((one for one in tried if one and tries.refused(one) is None), None)
    return _fewest(tries, found) if found else None


def _fewest(tries: _Tries, found: Changes) -> Changes:
    """Put back what did not have to go."""
    for name in list(found):
        fewer = {key: value for key, value in found.items() if key != name}
        if fewer and tries.refused(fewer) is None:
            found = fewer
    return found


def applicable(remedies: Sequence[str], instance: Instance) -> list[str]:
    """Pick the remedies that a program can apply."""
    return [text for text in remedies if next(changes(instance, text), None)]
