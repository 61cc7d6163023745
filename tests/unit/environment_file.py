"""A reader of EnvironmentFile= that follows systemd's rules, so that what is written can be read back.

The states are those of src/basic/env-file.c (parse_env_file_internal) of systemd 252, the behaviour that
systemd.exec(5) documents under EnvironmentFile=.
"""

from __future__ import annotations

from enum import Enum, auto

NEWLINE = "\n\r"
WHITESPACE = " \t\n\r"
COMMENTS = "#;"
# SHELL_NEED_ESCAPE: within double quotes a backslash is taken away before these only.
NEED_ESCAPE = '"\\`$'


class State(Enum):
    """Where the reader is."""

    PRE_KEY = auto()
    KEY = auto()
    PRE_VALUE = auto()
    VALUE = auto()
    VALUE_ESCAPE = auto()
    SINGLE_QUOTE = auto()
    DOUBLE_QUOTE = auto()
    DOUBLE_QUOTE_ESCAPE = auto()
    COMMENT = auto()
    COMMENT_ESCAPE = auto()


def acceptable(value: str) -> bool:
    """Whether systemd takes a value into an environment (basic/env-util.c, env_value_is_valid; basic/utf8.c)."""
    return not any(
        (ord(c) < 32 and c not in "\t\n")
        or c == "\x7f"
        or 0xD800 <= ord(c) <= 0xDFFF
        or 0xFDD0 <= ord(c) <= 0xFDEF
        or ord(c) & 0xFFFE == 0xFFFE
        for c in value
    )


def read(text: str) -> dict[str, str]:
    """Return the variables of a file; those that systemd would drop are not among them."""
    found: dict[str, str] = {}
    state, key, value, kept = State.PRE_KEY, "", "", 0

    def push() -> None:
        # white space at the end counts only where it was quoted or escaped
        whole = value[:kept] + value[kept:].rstrip(WHITESPACE)
        if acceptable(whole):
            found[key.rstrip(WHITESPACE)] = whole

    for c in text:
        if state is State.PRE_KEY:
            if c in COMMENTS:
                state = State.COMMENT
            elif c not in WHITESPACE:
                state, key = State.KEY, c
        elif state is State.KEY:
            if c in NEWLINE:
                state = State.PRE_KEY
            elif c == "=":
                state, value, kept = State.PRE_VALUE, "", 0
            else:
                key += c
        elif state in (State.PRE_VALUE, State.VALUE):
            if c in NEWLINE:
                push()
                state = State.PRE_KEY
            elif c == "\\":
                state = State.VALUE_ESCAPE
            elif state is State.PRE_VALUE and c == "'":
                state = State.SINGLE_QUOTE
            elif state is State.PRE_VALUE and c == '"':
                state = State.DOUBLE_QUOTE
            elif state is State.VALUE or c not in WHITESPACE:
                state = State.VALUE
                value += c
        elif state is State.VALUE_ESCAPE:
            state = State.VALUE
            if c not in NEWLINE:
                value += c
                kept = len(value)
        elif state is State.SINGLE_QUOTE:
            if c == "'":
                state, kept = State.PRE_VALUE, len(value)
            else:
                value += c
        elif state is State.DOUBLE_QUOTE:
            if c == '"':
                state, kept = State.PRE_VALUE, len(value)
            elif c == "\\":
                state = State.DOUBLE_QUOTE_ESCAPE
            else:
                value += c
        elif state is State.DOUBLE_QUOTE_ESCAPE:
            state = State.DOUBLE_QUOTE
            if c in NEED_ESCAPE:
                value += c
            elif c != "\n":
                value += "\\" + c
        elif state is State.COMMENT:
            if c == "\\":
                state = State.COMMENT_ESCAPE
            elif c in NEWLINE:
                state = State.PRE_KEY
        else:
            state = State.COMMENT
    if state in (State.PRE_VALUE, State.VALUE, State.VALUE_ESCAPE, State.SINGLE_QUOTE, State.DOUBLE_QUOTE):
        push()
    return found
