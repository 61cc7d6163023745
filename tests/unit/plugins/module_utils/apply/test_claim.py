"""The user of the service against root, in a folder that is that user's until root takes it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply import claim, removal
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.files import write_atomically
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.hub_cache import Snapshot
from ansible_collections.gpufleet.vllm.plugins.module_utils.apply.written import Writer
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import GpufleetError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import systemd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")

FORK = multiprocessing.get_context("fork")
# Of nobody else.
USER = 64999
SECRET = "of root alone"
MODEL = "hub/models--org--chat"
COMMIT = "b" * 40
OLD_UNIT = "[Service]\nStateDirectory=vllm\nCacheDirectory=vllm/%i\nWorkingDirectory=%S/vllm\n"
NEW_UNIT = "[Service]\nStateDirectory=vllm/work\nCacheDirectory=vllm/%i\nWorkingDirectory=%S/vllm/work\n"
# What the service's user has before: everything, as systemd gave it away.
TREE = f"""
receipts/chat.json checks/chat.json models/chat/config.json models/chat/deep/weights work/cache other/own
{MODEL}/blobs/0a {MODEL}/refs/main {MODEL}/gpufleet-{COMMIT}.json
""".split()


class Host:
    """/var/lib/vllm and /etc of a host, and what systemctl was told."""

    def __init__(self, root: Path) -> None:
        self.state, self.unit = root / "lib/vllm", root / "units/vllm@.service"
        self.victim, self.private = root / "etc/shadow", root / "private"
        self.told: list[str] = []
        self.status = 0
        for folder in (self.state, self.unit.parent, self.victim.parent, self.private):
            folder.mkdir(parents=True)
        for file in (self.victim, self.private / "config.json", self.private / "chat.json"):
            file.write_text(SECRET)
            file.chmod(0o600)
        self.private.chmod(0o700)
        self.before = self.untouched()
        self.make()

    def make(self) -> None:
        """Make what is there before."""
        for name in TREE:
            (self.state / name).parent.mkdir(parents=True, exist_ok=True)
            (self.state / name).write_text("{}")
        self.give_away()

    def give_away(self) -> None:
        """What systemd does with StateDirectory=vllm."""
        for folder, folders, files in os.walk(self.state):
            for name in (".", *folders, *files):
                os.lchown(Path(folder, name), USER, USER)

    def untouched(self) -> list[Any]:
        """All that the user must not have changed through root."""
        places = [self.victim, self.private, *sorted(self.private.iterdir())]
        found = [(str(place), place.stat().st_mode, place.stat().st_uid) for place in places]
        return [*found, *(place.read_text() for place in places if place.is_file())]

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        """Note what systemctl is told, and whose the folder is then."""
        self.told.append(f"{' '.join(argv[1:])} {self.state.stat().st_uid}")
        return self.status, "", "no bus"

    def claim(self, *names: str) -> list[str]:
        """Let root take folders."""
        wanted = [self.state / name for name in names] if names else claim.existing()
        return [str(Path(one).relative_to(self.state.parents[1])) for one in claim.claim(wanted, self.run)]

    def hostile(self, program: str) -> ForkProcess:
        """Begin a program of Python as the user of the service."""
        # forked, as that user may not read the interpreter
        process = FORK.Process(target=self.as_user, args=(program,))
        process.start()
        return process

    def as_user(self, program: str) -> None:
        """Become that user, for good."""
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        os.chdir(self.state)
        names = {"os": os, "shutil": shutil, "socket": socket, "victim": str(self.victim), "private": str(self.private)}
        exec(program, names)

    def ended(self, program: str) -> int | None:
        """Run such a program; return its status."""
        process = self.hostile(program)
        process.join(30)
        return process.exitcode

    def plant(self, program: str) -> None:
        """Let the user of the service do something, which works."""
        assert self.ended(program) == 0

    def of_user(self) -> list[str]:
        """What belongs to somebody else than root, or is open to others for writing."""
        found = []
        for folder, folders, files in os.walk(self.state):
            for name in (*folders, *files):
                told = Path(folder, name).lstat()
                mode = 0 if stat.S_ISLNK(told.st_mode) else told.st_mode & 0o7022
                if (told.st_uid, told.st_gid) != (0, 0) or mode:
                    found.append(str(Path(folder, name).relative_to(self.state)))
        return sorted(found)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    # tmp_path is closed to others
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    try:
        found = Host(root)
        monkeypatch.setattr(claim, "STATE", found.state)
        monkeypatch.setattr(claim, "UNIT", found.unit)
        yield found
        assert found.untouched() == found.before
    finally:
        shutil.rmtree(root)


OWN = ["other", "other/own", "work", "work/cache"]


def test_what_root_works_in_becomes_roots_and_the_rest_stays(host: Host) -> None:
    host.plant(
        "os.chmod('.', 0o777); os.chmod('models', 0o2777); os.chmod('models/chat', 0o700)\n"
        "os.chmod('models/chat/config.json', 0o600); os.chmod('receipts/chat.json', 0o4777)\n"
        f"os.makedirs('{MODEL}/snapshots/{COMMIT}/deep')\n"
        f"os.symlink('../../../blobs/0a', '{MODEL}/snapshots/{COMMIT}/deep/weights')\n"
        f"os.symlink('../../blobs/0a', '{MODEL}/snapshots/{COMMIT}/config.json')\n"
    )
    before = (host.state / "models/chat/config.json").stat().st_mtime_ns
    assert host.claim() == ["lib/vllm", *(f"lib/vllm/{name}" for name in claim.FOLDERS)]
    links = [f"{MODEL}/snapshots/{COMMIT}/config.json", f"{MODEL}/snapshots/{COMMIT}/deep/weights"]
    assert host.of_user() == sorted([*OWN, *links])
    assert [(host.state / link).read_text() for link in links] == ["{}", "{}"]
    for name, mode in (
        *((".", 0o755), ("models", 0o755), ("models/chat", 0o755), ("models/chat/config.json", 0o644)),
        ("receipts/chat.json", 0o644),
    ):
        assert stat.S_IMODE((host.state / name).stat().st_mode) == mode
    assert (host.state / "models/chat/config.json").stat().st_mtime_ns == before
    assert host.claim() == []


ATTEMPTS = """
def tried(work):
    try:
        work()
    except PermissionError:
        return False
    return True
found = [tried(one) for one in (
    lambda: os.rename('receipts', 'mine'), lambda: os.rename('models/chat', 'models/mine'),
    lambda: os.symlink(victim, 'receipts/next.json'), lambda: os.symlink(victim, 'receipts/.chat.json.x'),
    lambda: os.unlink('checks/chat.json'), lambda: os.rmdir('work'), lambda: os.symlink(private, 'next'),
    lambda: open('models/chat/config.json', 'a'), lambda: os.chmod('models', 0o777), lambda: os.mkdir('hub/x'),
    lambda: os.chmod('.', 0o777), lambda: os.rename('other', 'mine'),
)]
open('work/more', 'w').close(); open('other/more', 'w').close()
raise SystemExit(any(found))
"""


def test_then_the_user_replaces_nothing_and_has_work(host: Host) -> None:
    assert host.ended(ATTEMPTS) != 0
    shutil.rmtree(host.state)
    host.make()
    host.claim()
    assert host.ended(ATTEMPTS) == 0


def test_an_access_list_goes(host: Host) -> None:
    # version 2, user::rwx user:USER:rwx group::r-x mask::rwx other::r-x
    entries = [(1, 7, -1), (2, 7, USER), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    text = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + (who % 2**32).to_bytes(4, "little")
        for tag, rights, who in entries
    )
    try:
        for name in claim.ACCESS_LISTS:
            os.setxattr(host.state / "receipts", name, text)
    except OSError:
        pytest.skip("this file system has no access lists")
    host.claim()
    assert os.listxattr(host.state / "receipts") == []


# What is put where, and which path is refused.
LINKS = {
    "a folder of records": ("shutil.rmtree('receipts'); os.symlink(private, 'receipts')", "receipts"),
    "a folder of checks": ("shutil.rmtree('checks'); os.symlink(private, 'checks')", "checks"),
    "the models": ("shutil.rmtree('models'); os.symlink(private, 'models')", "models"),
    "the cache": ("shutil.rmtree('hub'); os.symlink(private, 'hub')", "hub"),
    "the service's own": ("shutil.rmtree('work'); os.symlink(private, 'work')", "work"),
    "a file for a folder": ("shutil.rmtree('work'); open('work', 'w').close()", "work"),
    "a file for records": ("shutil.rmtree('receipts'); open('receipts', 'w').close()", "receipts"),
    "a model": ("shutil.rmtree('models/chat'); os.symlink(private, 'models/chat')", "models/chat"),
    "a file of a model": ("os.symlink(victim, 'models/chat/x')", "models/chat/x"),
    "a receipt": ("os.remove('receipts/chat.json'); os.symlink(victim, 'receipts/chat.json')", "receipts/chat.json"),
    "a part": ("os.symlink(victim, 'checks/.chat.json.part')", "checks/.chat.json.part"),
    "a link to nothing": ("os.symlink('/nothing', 'checks/x')", "checks/x"),
    "a record of the cache": (f"os.symlink(victim, '{MODEL}/gpufleet-x.json')", f"{MODEL}/gpufleet-x.json"),
    "a snapshot's file": (
        f"os.makedirs('{MODEL}/snapshots/c'); os.symlink(victim, '{MODEL}/snapshots/c/f')",
        f"{MODEL}/snapshots/c/f",
    ),
    "out of the blobs": (
        f"os.makedirs('{MODEL}/snapshots/c'); os.symlink('../../blobs/../../x', '{MODEL}/snapshots/c/f')",
        f"{MODEL}/snapshots/c/f",
    ),
    "the blobs of another": (
        f"os.makedirs('{MODEL}/snapshots/c'); os.symlink('../../../models--b--b/blobs/x', '{MODEL}/snapshots/c/f')",
        f"{MODEL}/snapshots/c/f",
    ),
    "a commit": (f"os.mkdir('{MODEL}/snapshots'); os.symlink(private, '{MODEL}/snapshots/c')", f"{MODEL}/snapshots/c"),
    "a blob": (f"os.symlink(victim, '{MODEL}/blobs/x')", f"{MODEL}/blobs/x"),
    "all blobs": (f"shutil.rmtree('{MODEL}/blobs'); os.symlink(private, '{MODEL}/blobs')", f"{MODEL}/blobs"),
    "a second name": ("os.link('other/own', 'receipts/x.json')", "receipts/x.json"),
    "a pipe": ("os.mkfifo('receipts/x.json')", "receipts/x.json"),
    "a socket": ("socket.socket(socket.AF_UNIX).bind('receipts/x.json')", "receipts/x.json"),
    "a name that writes to the terminal": ("os.symlink(victim, 'receipts/\\x1b]0;x\\x07\\n')", "receipts/\\x1b"),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_and_what_is_no_file_are_refused(host: Host, kind: str) -> None:
    program, refused = LINKS[kind]
    host.plant(program)
    for _again in range(2):
        with pytest.raises(claim.Foreign) as told:
            host.claim("checks", "hub", "models", "receipts")
        said = str(told.value)
        assert f"'{host.state}/{refused}" in said
        assert said.isprintable()
        assert "run the play again" in said
        assert host.state.stat().st_uid == 0
    # all else is taken
    around = {*OWN, refused, *map(str, Path(refused).parents)}
    assert {path for path in host.of_user() if not (host.state / path).is_symlink()} <= around
    place = host.state / refused
    if os.path.lexists(place):
        place.unlink()
        host.claim("checks", "hub", "models", "receipts")


def test_folders_in_one_another_without_end(host: Host) -> None:
    host.plant("os.chdir('models')\nfor _one in range(3000):\n    os.mkdir('d'); os.chdir('d')\n")
    try:
        with pytest.raises(claim.Foreign, match="more than 64 folders in one another"):
            host.claim()
    finally:
        subprocess.run(["rm", "-rf", str(host.state / "models")], check=True)


def test_many_refused_are_counted(host: Host) -> None:
    host.plant("for one in range(9):\n    os.symlink(victim, f'receipts/{one}')\n")
    with pytest.raises(claim.Foreign, match="There are 4 more of them"):
        host.claim()


def test_a_run_that_was_killed_is_completed_by_the_next(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = os.fchown, [0]

    def killed(*arguments: Any) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*arguments)

    for steps in range(60):
        left[0] = steps
        monkeypatch.setattr(os, "fchown", killed)
        host.give_away()
        try:
            host.claim()
            break
        except KeyboardInterrupt:
            monkeypatch.setattr(os, "fchown", real)
            host.claim()
            assert host.of_user() == OWN, steps
    else:
        pytest.fail("it never ended by itself")
    assert steps > 10


def test_the_unit_is_rewritten_before_the_folder_is_taken(host: Host) -> None:
    host.unit.write_text(OLD_UNIT)
    assert host.claim("receipts") == ["units/vllm@.service", "lib/vllm", "lib/vllm/receipts"]
    assert host.unit.read_text() == NEW_UNIT
    # nothing is started again
    assert host.told == [f"daemon-reload {USER}"]
    assert (host.claim("receipts"), len(host.told)) == ([], 1)
    # a run that was killed before the reload, and then a start with what systemd knew
    host.give_away()
    host.claim("receipts")
    assert len(host.told) == 2
    host.unit.write_text(OLD_UNIT)
    assert host.claim("receipts") == ["units/vllm@.service"]


def test_where_systemd_keeps_the_old_unit_nothing_is_taken(host: Host) -> None:
    host.unit.write_text(OLD_UNIT)
    host.status = 1
    with pytest.raises(GpufleetError, match="daemon-reload failed: no bus"):
        host.claim()
    assert host.state.stat().st_uid == USER


def test_folders_elsewhere_are_not_looked_at(host: Host) -> None:
    assert claim.claim([host.private, host.state.parent], host.run) == []
    assert host.state.stat().st_uid == USER
    with pytest.raises(claim.Foreign, match="folder of the service"):
        host.claim("work/hub")


def test_a_folder_of_another_name_and_the_whole(host: Host) -> None:
    assert host.claim("other/weights") == ["lib/vllm", "lib/vllm/other"]
    assert [path for path in host.of_user() if path.startswith("other")] == []
    assert host.claim(".") == [f"lib/vllm/{name}" for name in claim.FOLDERS]
    assert host.of_user() == ["work", "work/cache"]


def test_a_new_host_has_folders_that_everybody_reads(host: Host) -> None:
    shutil.rmtree(host.state)
    old = os.umask(0o077)
    try:
        host.claim("hub", "models/chat")
    finally:
        os.umask(old)
    for name in (".", "hub", "models"):
        assert stat.S_IMODE((host.state / name).stat().st_mode) == 0o755
    assert host.claim("hub") == []


# Each goes back and forth between what was there and a link, as fast as it can, for as long as it may.
RACES = {
    "a folder": ("receipts", "private"),
    "a model": ("models/chat", "private"),
    "a file": ("receipts/chat.json", "victim"),
    "a file of a model": ("models/chat/config.json", "victim"),
}
RACE = """
os.mkdir('other/links'); os.symlink(target, 'other/links/link')
while True:
    os.rename(name, 'other/links/kept'); os.rename('other/links/link', name)
    os.rename(name, 'other/links/link'); os.rename('other/links/kept', name)
"""


@pytest.mark.parametrize("kind", RACES)
def test_races(host: Host, kind: str) -> None:
    name, target = RACES[kind]
    for number in range(25):
        shutil.rmtree(host.state)
        host.make()
        racer = host.hostile(f"name = {name!r}; target = {target}\n{RACE}")
        while not (host.state / "other/links").exists():
            time.sleep(0.0005)
        time.sleep(number / 5000)
        try:
            host.claim("receipts", "models")
            write_atomically(host.state / "receipts/chat.json", "{}")
            write_atomically(host.state / "models/chat/config.json", "{}")
        except claim.Foreign:
            # the link was there just then
            pass
        finally:
            racer.kill()
            racer.join()
        assert host.untouched() == host.before


def test_removal_through_a_link_shows_and_removes_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "STATE", host.state)
    for key in ("SETTINGS", "UNITS", "CACHES"):
        monkeypatch.setattr(removal, key, host.state.parents[1] / key)
    monkeypatch.setattr(systemd, "show", lambda _units: {})
    host.plant(LINKS["a folder of records"][0])
    for check in (True, False):
        writer = Writer(check)
        removal.Removal(writer, host.run).instances(["chat"], host.private)
        assert SECRET not in str(writer.diffs)
        assert writer.changed == [str(host.state / "checks/chat.json")]
    assert not (host.state / "checks/chat.json").exists()


@pytest.mark.parametrize("step", ["verify", "drop"])
def test_the_cache_is_worked_in_when_it_is_roots(host: Host, step: str) -> None:
    host.plant(LINKS["a snapshot's file"][0])
    with pytest.raises(claim.Foreign):
        host.claim("hub")
    (host.state / MODEL / "snapshots/c/f").unlink()
    host.claim("hub")
    snapshot = Snapshot(str(host.state / "hub"), "org/chat", "c", [{"path": "f", "size": 2}])
    assert host.ended(f"os.symlink(victim, '{MODEL}/snapshots/c/f')") != 0
    if step == "verify":
        assert snapshot.verify(["f"], 1) == (["f"], ["f"])
    else:
        snapshot.drop(["f"])
