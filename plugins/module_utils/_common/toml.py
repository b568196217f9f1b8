# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The part of TOML that container runtimes use in their configuration, for nodes whose Python has no tomllib.

Tables, arrays of tables, dotted and quoted keys, strings of all four kinds, integers, floats, booleans, arrays and
inline tables. Not there: dates and the finer points of redefinition; the runtime itself has checked those.
"""

from __future__ import annotations

import re
import typing as t

from .errors import InvalidInput

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^\s,\]}#]+")
_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}
_TRIMMED_LINE_END = re.compile(r"[ \t]*\r?\n[ \t\r\n]*")


class TomlError(InvalidInput):
    """The text is not TOML, or of a part of it that we do not read."""

    kind = "toml"


def loads(text: str) -> dict[str, t.Any]:
    """Parse a document.

    :raises TomlError: with the line number.
    """
    return _Parser(text).document()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> dict[str, t.Any]:
        root: dict[str, t.Any] = {}
        table = root
        self._skip(_BLANK_LINES)
        while self._at < len(self._text):
            if self._take("[["):
                table = self._append_table(root, self._key())
                self._expect("]]")
            elif self._take("["):
                table = self._descend(root, self._key())
                self._expect("]")
            else:
                self._assignment(table)
            self._end_of_line()
        return root

    def _assignment(self, table: dict[str, t.Any]) -> None:
        *parents, last = self._key()
        self._expect("=")
        self._skip(_BLANK)
        target = self._descend(table, parents)
        if last in target:
            raise self._error(f"{last} is there twice")
        target[last] = self._value()

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._skip(_BLANK)
            if self._peek() in ('"', "'"):
                parts.append(self._string())
            else:
                match = _BARE_KEY.match(self._text, self._at)
                if match is None:
                    raise self._error("a key is missing")
                self._at = match.end()
                parts.append(match.group())
            self._skip(_BLANK)
            if not self._take("."):
                return parts

    def _value(self) -> t.Any:
        first = self._peek()
        if first in ('"', "'"):
            return self._string()
        if self._take("["):
            return self._array()
        if self._take("{"):
            return self._inline_table()
        match = _SCALAR.match(self._text, self._at)
        if match is None:
            raise self._error("a value is missing")
        word = match.group()
        if word in ("true", "false"):
            self._at = match.end()
            return word == "true"
        digits = word.replace("_", "")
        for parse in (lambda: int(digits, 10), lambda: int(digits, 0), lambda: float(digits)):
            try:
                number = parse()
            except ValueError:
                continue
            self._at = match.end()
            return number
        raise self._error(f"cannot read the value {word!r}")

    def _array(self) -> list[t.Any]:
        values: list[t.Any] = []
        while True:
            self._skip(_BLANK_LINES)
            if self._take("]"):
                return values
            values.append(self._value())
            self._skip(_BLANK_LINES)
            if not self._take(",") and self._peek() != "]":
                raise self._error("an array is not closed")

    def _inline_table(self) -> dict[str, t.Any]:
        table: dict[str, t.Any] = {}
        while True:
            self._skip(_BLANK_LINES)
            if self._take("}"):
                return table
            self._assignment(table)
            self._skip(_BLANK_LINES)
            if not self._take(",") and self._peek() != "}":
                raise self._error("an inline table is not closed")

    def _string(self) -> str:
        quote = self._text[self._at]
        long = self._text.startswith(quote * 3, self._at)
        opening = quote * 3 if long else quote
        self._at += len(opening)
        if long:
            self._take("\r")
            self._take("\n")
        parts: list[str] = []
        while not self._text.startswith(opening, self._at):
            character = self._peek()
            if character == "" or (character == "\n" and not long):
                raise self._error("a string is not closed")
            self._at += 1
            parts.append(self._escape(long) if character == "\\" and quote == '"' else character)
        self._at += len(opening)
        return "".join(parts)

    def _escape(self, long: bool) -> str:
        if long:
            match = _TRIMMED_LINE_END.match(self._text, self._at)
            if match:
                self._at = match.end()
                return ""
        letter = self._peek()
        self._at += 1
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        width = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
        try:
            character = chr(int(self._text[self._at : self._at + width], 16))
        except (ValueError, OverflowError):
            raise self._error("unknown escape in a string") from None
        self._at += width
        return character

    def _descend(self, table: dict[str, t.Any], parts: list[str]) -> dict[str, t.Any]:
        for part in parts:
            inner = table.setdefault(part, {})
            if isinstance(inner, list):
                inner = inner[-1] if inner else None
            if not isinstance(inner, dict):
                raise self._error(f"{part} is not a table")
            table = inner
        return table

    def _append_table(self, root: dict[str, t.Any], parts: list[str]) -> dict[str, t.Any]:
        tables = self._descend(root, parts[:-1]).setdefault(parts[-1], [])
        if not isinstance(tables, list):
            raise self._error(f"{parts[-1]} is not an array of tables")
        table: dict[str, t.Any] = {}
        tables.append(table)
        return table

    def _end_of_line(self) -> None:
        self._skip(_BLANK)
        if self._peek() not in ("", "\n", "\r", "#"):
            raise self._error("something follows where the line should end")
        self._skip(_BLANK_LINES)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, token: str) -> bool:
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._error(f"{token} is missing")

    def _error(self, what: str) -> TomlError:
        return TomlError(f"line {self._text.count(chr(10), 0, self._at) + 1}: {what}")
