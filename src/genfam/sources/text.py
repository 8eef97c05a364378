"""Characters of a text: windows of any UTF-8 file.

Reference:
    Mahoney, M. 2011. About the test data. http://mattmahoney.net/dc/textdata.html (text8: lower-case letters and
    single spaces, of which bits per character are reported)
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Annotated, cast

import torch
from annotated_types import Ge, Le
from torch import Generator, Tensor

from genfam.files import contents_of
from genfam.sources.base import Source
from genfam.sources.images import draw
from genfam.sources.strings import spelled
from genfam.sources.view import View
from genfam.types import Event

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
SHARES = (0.8, 0.1)  # of the text, to learn from and for validation; the rest is for testing
FEWEST_WINDOWS = 10  # of the validation and of the test part


class Text(Source):
    """Windows of L characters.

    The text is cut into three parts: the first eight tenths are learnt from, in windows that begin at every character;
    the next tenth is for validation and the last one for testing, in windows side by side. No window crosses a cut. The
    vocabulary is that of the first part: its most frequent characters, in the order of their code points, after one
    token for all others.

    Args:
        path: of a UTF-8 file, below `data_dir` or absolute; None = the help texts that come with Python
            (`pydoc_data.topics`: a third of a million characters of English about the language; paragraphs that occur
            before are left out, for its pages quote one another). Another version of Python may bring another text,
            which the fingerprint says.
        data_dir: where `path` lies.
        length: L.
        characters: V, tokens with the one for unknown characters.
        plain: as text8: lower case, and everything but letters becomes one space.
        name: of the source.

    Raises:
        FileNotFoundError: at the first look, where there is no such file.
        ValueError: at the first look, where it is not UTF-8 or too short.
    """

    places = ("data_dir", "path", "download")

    def __init__(
        self,
        path: str | None = None,
        data_dir: str | Path | None = None,
        length: Annotated[int, Ge(3), Le(1024)] = 64,
        characters: Annotated[int, Ge(2), Le(256)] = 28,
        plain: bool = True,
        name: str = "text",
    ) -> None:
        self.path = None if path is None else Path(data_dir or ".").expanduser() / Path(path).expanduser()
        self.name, self.plain = name, plain
        self.event = Event((length,), characters)

    def require(self) -> None:
        """See `Source.require`; a text is read for it, since it must be UTF-8 and long enough."""
        assert self._parts

    def count(self) -> int | None:
        """Windows to learn from."""
        return len(self.train)

    def contents(self) -> str | None:
        """See `Source.contents`."""
        if self.path is None:
            return hashlib.sha256(self._read().encode()).hexdigest()
        self._check_file()
        return contents_of(self.path.parent, [Path(self.path.name)])

    def remarks(self) -> list[str]:
        """See `Source.remarks`."""
        unknown = [f"{float((part == 0).double().mean()):.2%}" for part in self._parts]
        found = len(self.tokens) - self.tokens.count(UNKNOWN)
        return [
            f"{sum(map(len, self._parts))} characters, {found} different ones known; unknown {unknown[0]} of the "
            f"training part, {unknown[2]} of the test part"
        ]

    def _check_file(self) -> None:
        if self.path is not None and not self.path.is_file():
            raise FileNotFoundError(
                f"source {self.name}: expected a UTF-8 text at {self.path.absolute()} (source.path=…, below data_dir=… "
                "where that is given), found none"
            )

    def _read(self) -> str:
        """The text as it stands."""
        if self.path is None:
            return pythons_own_text(f"source {self.name}")
        self._check_file()
        try:
            return self.path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"source {self.name}: expected UTF-8 in {self.path}, got byte {error.object[error.start]:#04x} at "
                f"{error.start}: convert it first (iconv -t UTF-8)"
            ) from error

    @cached_property
    def _texts(self) -> tuple[str, str, str]:
        """To learn from, for validation, for testing."""
        text = self._read()
        if self.plain:
            text = re.sub(r"[\W\d_]+", " ", text.lower()).strip()
        first, second = int(SHARES[0] * len(text)), int(sum(SHARES) * len(text))
        parts = text[:first], text[first:second], text[second:]
        needed = FEWEST_WINDOWS * self.event.dimensions
        if min(map(len, parts)) < needed:
            raise ValueError(
                f"source {self.name}: expected a text of at least {round(needed / SHARES[1])} characters "
                f"({FEWEST_WINDOWS} windows of {self.event.dimensions} in its last tenth), got {len(text)}"
            )
        return parts

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """V characters by their number; 0 is the unknown one, and so are numbers that no character has."""
        assert self.event.levels is not None
        frequent = Counter(self._texts[0]).most_common(self.event.levels - 1)
        known = sorted(character for character, _ in frequent)
        return (UNKNOWN, *known, *[UNKNOWN] * (self.event.levels - 1 - len(known)))

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three parts as (characters,) uint8 tokens."""
        numbers = {character: number for number, character in enumerate(self.tokens) if character != UNKNOWN}
        return tuple(  # type: ignore[return-value]
            torch.tensor([numbers.get(character, 0) for character in part], dtype=torch.uint8) for part in self._texts
        )

    @property
    def train(self) -> Tensor:
        """(N, L) uint8, made when looked at: a window from every character of the first part."""
        text, length = self._parts[0], self.event.dimensions
        places = torch.arange(length)
        return cast(Tensor, View(len(text) - length + 1, lambda chosen: text[chosen[:, None] + places]))

    def for_validation(self) -> Tensor:
        """(M, L) uint8: what `split=validation` measures against; nobody learns from it."""
        return self._windows(1)

    @property
    def test(self) -> Tensor:
        """(M, L) uint8."""
        return self._windows(2)

    def _windows(self, part: int) -> Tensor:
        text, length = self._parts[part], self.event.dimensions
        return text[: len(text) // length * length].view(-1, length)

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """(n, L) windows of the training part, without repetition as long as they last."""
        return draw(self.train, n, generator)

    def text(self, x: Tensor) -> list[str]:
        """(B, L) -> B strings."""
        return spelled(x, self.tokens)


def pythons_own_text(where: str) -> str:
    """The topics of Python's `help()`, each paragraph once.

    Args:
        where: for errors.

    Raises:
        FileNotFoundError: this Python has none.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FileNotFoundError(
            f"{where}: this Python came without pydoc_data.topics; give a UTF-8 text as source.path=FILE"
        ) from error
    kept = dict.fromkeys(" ".join(part.split()) for name in sorted(topics) for part in topics[name].split("\n\n"))
    return "\n".join(part for part in kept if part)
