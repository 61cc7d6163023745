# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads where apt and dnf get packages from, and takes single entries out of use. Pure: text in, entries or text out.

Formats: sources.list(5) of apt 2.6 and 3.0, and dnf.conf(5), "REPO OPTIONS". An entry is a dictionary:

``path`` and ``place``
    Its file, and the line that it begins at (apt) or the name of its section (dnf).
``enabled``, ``types``, ``uri``, ``suite``, ``architectures``, ``trusted``
    As written; ``uri`` without a user and a password, one entry for each pair of URI and suite.
``signed_by``
    Its keys as written: paths, fingerprints or ``embedded``; empty where it names none.
``embedded_key``
    The armored key in a file of the format deb822, or an empty text.
``shared``
    Whether the same line, paragraph or section has other URIs, too.
``excludes``
    Patterns of packages that dnf leaves out.
``problem``
    Why the package manager cannot read the entry, or an empty text.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

Entry = dict[str, Any]

EMBEDDED = "embedded"
# apt reads no other names in sources.list.d (apt.conf(5), Dir::Etc::sourceparts).
FILE_NAME = re.compile(r"^[A-Za-z0-9_.-]+\.(?:list|sources)$")
_WORD = re.compile(r'(?:"[^"]{0,400}"|\[[^\]]{0,400}\]|[^\s"\[])+')
_FIELD = re.compile(r"^([A-Za-z][A-Za-z0-9-]*)\s*:(.*)$")
_NO = ("no", "false", "without", "off", "disable", "0")
_YES = ("yes", "true", "with", "on", "enable", "1")
_NOTE = "# Taken out of use by Ansible (gpufleet.vllm.cuda): "


def parse_list(path: str, text: str) -> list[Entry]:
    """Read a file of the one-line format; lines that are commented out are no entries."""
    found = []
    for number, line in enumerate(_lines(text), 1):
        said = line.split("#", 1)[0].strip()
        if said:
            found.append(_line(path, number, said))
    return found


def _lines(text: str) -> list[str]:
    """Lines with their ends; only a line feed ends one, for apt and dnf as here."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _line(path: str, number: int, said: str) -> Entry:
    kind, _space, rest = said.partition(" ") if " " in said else said.partition("\t")
    rest, options = rest.strip(), {}
    if rest.startswith("["):
        inside, closed, rest = rest[1:].partition("]")
        if not closed:
            return _entry(path, number, problem="its options have no closing bracket")
        options = dict(_option(one) for one in inside.split() if "=" in one)
    words = _WORD.findall(rest)
    if kind not in ("deb", "deb-src"):
        return _entry(path, number, problem=f"{_short(kind)!r} is no type of apt")
    if len(words) < 2:
        return _entry(path, number, problem="it has no URI or no suite")
    return _entry(
        path,
        number,
        types=[kind],
        uri=words[0],
        suite=words[1],
        signed_by=options.get("signed-by", ""),
        architectures=_listed(options.get("arch", "")),
        trusted=options.get("trusted", "").lower() in _YES,
    )


def _option(text: str) -> tuple[str, str]:
    name, _sign, value = text.partition("=")
    return name.lower().rstrip("+-"), value


def _short(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:20]}..."


def _listed(text: str) -> list[str]:
    return [one for one in re.split(r"[,\s]+", text) if one]


def parse_deb822(path: str, text: str) -> list[Entry]:
    """Read a file of the format deb822."""
    return [entry for number, fields in _paragraphs(text) for entry in _paragraph(path, number, fields)]


def _paragraphs(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Paragraphs with the line that they begin at; names of fields in lower case, values with their lines."""
    begin, last = 0, ""
    fields: dict[str, str] = {}
    for number, line in enumerate([*_lines(text), ""], 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield begin, fields
            begin, fields, last = 0, {}, ""
            continue
        begin = begin or number
        field = _FIELD.match(line)
        if field and not line[0].isspace():
            last = field[1].lower()
            fields[last] = field[2].strip()
        elif line[0].isspace() and last:
            fields[last] += f"\n{line.strip()}"
        else:
            fields.setdefault("", line.strip())


def _paragraph(path: str, number: int, fields: dict[str, str]) -> Iterator[Entry]:
    enabled = fields.get("enabled", "yes").lower() not in _NO
    types, uris, suites = (fields.get(name, "").split() for name in ("types", "uris", "suites"))
    missing = [name for name, value in (("Types", types), ("URIs", uris), ("Suites", suites)) if not value]
    if "" in fields or missing:
        why = f"it has no {', '.join(missing)}" if missing else f"{_short(fields['']).strip()!r} is no field"
        yield _entry(path, number, enabled=enabled, problem=why)
        return
    key = fields.get("signed-by", "")
    armored = "\n".join("" if line == "." else line for line in key.strip().splitlines()) if "BEGIN PGP" in key else ""
    for uri in uris:
        for suite in suites:
            yield _entry(
                path,
                number,
                enabled=enabled,
                types=types,
                uri=uri,
                suite=suite,
                signed_by=EMBEDDED if armored else ",".join(_listed(key)),
                embedded_key=armored,
                architectures=_listed(fields.get("architectures", "")),
                trusted=fields.get("trusted", "").lower() in _YES,
                shared=len(set(uris)) > 1,
            )


def parse_repo(path: str, text: str, machine: str, release: str = "") -> list[Entry]:
    """Read a file of dnf; ``machine`` is what dnf puts for $basearch, ``release`` for $releasever."""
    variables = {"basearch": machine, "releasever": release, "releasever_major": release}
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        return [_entry(path, 1, problem=" ".join(str(error.message).split()))]
    found = []
    for name in parser.sections():
        values = {key: value or "" for key, value in parser.items(name)}
        urls = _listed(
            re.sub(r"\$\{?(\w+)\}?", lambda found: variables.get(found[1], found[0]), values.get("baseurl", ""))
        )
        for uri in urls:
            found.append(
                _entry(
                    path,
                    name,
                    enabled=values.get("enabled", "1").strip().lower() not in _NO,
                    types=["rpm"],
                    uri=uri,
                    signed_by=",".join(_listed(values.get("gpgkey", ""))),
                    trusted=values.get("gpgcheck", "1").strip().lower() in _NO,
                    excludes=_listed(f"{values.get('exclude', '')} {values.get('excludepkgs', '')}"),
                    shared=len(set(urls)) > 1,
                )
            )
    return found


def _entry(path: str, place: int | str, **more: Any) -> Entry:
    found: Entry = {
        "path": path,
        "place": place,
        "enabled": True,
        "types": [],
        "uri": "",
        "suite": "",
        "architectures": [],
        "trusted": False,
        "signed_by": "",
        "embedded_key": "",
        "shared": False,
        "excludes": [],
        "problem": "",
        **more,
    }
    found["uri"] = without_password(found["uri"])
    return found


def without_password(uri: str) -> str:
    """A URI without user and password; what is no URI comes back as it is, without what stands before an @."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri.rsplit("@", 1)[-1]
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1])) if "@" in parts.netloc else uri


def redacted(text: str) -> str:
    """A file's text without what a URI in it has before its host, for a diff."""
    return re.sub(r"(://)[^/\s@]*@", r"\1***@", text)


def disabled(path: str, text: str, places: Collection[int | str]) -> str:
    """The text with the entries at these places taken out of use, and all else as it is."""
    lines = _lines(text)
    if path.endswith(".repo"):
        return _with_option(lines, {str(place) for place in places}, "enabled", "0")
    if path.endswith(".sources"):
        for place in sorted((int(place) for place in places), reverse=True):
            _switch_off(lines, place - 1)
        return "".join(lines)
    wanted = {int(place) for place in places}
    return "".join(f"{_NOTE}{line}" if number in wanted else line for number, line in enumerate(lines, 1))


def _switch_off(lines: list[str], begin: int) -> None:
    """Write Enabled: no into the paragraph that begins at an index."""
    place = begin
    while place < len(lines) and lines[place].strip():
        field = _FIELD.match(lines[place])
        if field and field[1].lower() == "enabled":
            lines[place] = "Enabled: no\n"
            return
        place += 1
    lines.insert(begin, "Enabled: no\n")


def with_excludes(text: str, section: str, patterns: Collection[str]) -> str:
    """The text of a .repo file whose section leaves these packages out, too; as it is where it does."""
    present = [entry["excludes"] for entry in parse_repo("", text, "") if entry["place"] == section]
    missing = [pattern for pattern in patterns if pattern not in (present[0] if present else ())]
    if not missing:
        return text
    value = " ".join([*(present[0] if present else ()), *missing])
    lines = _lines(text)
    # dnf reads both names; with one of them written there is one place to look.
    return _with_option(lines, {section}, "excludepkgs", value, also=("exclude",))


def without_excludes(text: str, section: str, patterns: Collection[str]) -> str:
    """The text of a .repo file whose section does not leave these packages out; as it is where it does not."""
    present = [entry["excludes"] for entry in parse_repo("", text, "") if entry["place"] == section]
    left = [pattern for pattern in (present[0] if present else ()) if pattern not in patterns]
    if not present or left == present[0]:
        return text
    lines = _lines(text)
    return _with_option(lines, {section}, "excludepkgs", " ".join(left) or None, also=("exclude",))


def _with_option(
    lines: list[str], sections: Collection[str], name: str, value: str | None, also: tuple[str, ...] = ()
) -> str:
    """Set an option in sections; an older one of that name, or of ``also``, goes with the lines that continue it."""
    kept: list[str] = []
    inside = dropping = False
    for line in lines:
        header = re.match(r"\s*\[([^\]]+)\]", line)
        if header:
            inside, dropping = header[1] in sections, False
            kept.append(line if line.endswith("\n") else f"{line}\n")
            if inside and value is not None:
                kept.append(f"{name}={value}\n")
            continue
        if inside and re.match(rf"(?:{'|'.join((name, *also))})\s*=", line, re.IGNORECASE):
            dropping = True
            continue
        if dropping and line[:1].isspace() and line.strip():
            continue
        dropping = False
        kept.append(line)
    return "".join(kept)
