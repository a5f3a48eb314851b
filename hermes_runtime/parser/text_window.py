"""The text at hand: what has arrived and is not read yet, and a record of what may have to be read again."""

from __future__ import annotations

import re

from hermes_runtime.parser import markup


class TextWindow:
    """A place in a text that arrives in pieces.

    Only what is not read yet is kept, and what was read since `record`. Positions count from the beginning of the whole
    text; indices count from the beginning of `text`.

    Attributes:
        text: The text at hand.
        at: Index of the first character that is not read.
        at_end: No text follows.
    """

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.at_end = False
        self._base = 0
        self._earlier: list[str] = []
        self._record_from = 0
        self._record_position: int | None = None
        self._read_twice = 0

    @property
    def position(self) -> int:
        """Position of the first character that is not read."""
        return self._base + self.at

    @property
    def exhausted(self) -> bool:
        """Whether all text at hand is read."""
        return self.at == len(self.text)

    def position_of(self, index: int) -> int:
        """Return the position of an index into `text`."""
        return self._base + index

    def extend(self, text: str) -> None:
        """Add text that has arrived."""
        if self._record_position is not None:
            self._earlier.append(self.text[self._record_from : self.at])
        self._record_from = 0
        self._base += self.at
        self.text = self.text[self.at :] + text
        self.at = 0

    def go_to_tag(self) -> tuple[re.Match[str] | None, int]:
        """Go to the next tag of a block, or to what may still become one; without either, to the end of `text`.

        Returns:
            The tag, or None where no whole one is there; and the index up to which the text looks like one, which at
            the end of `text` says that more of it may follow.
        """
        found = markup.BLOCK.search(self.text, self.at)
        self.at = found.start() if found else len(self.text)
        return markup.TAG.match(self.text, self.at), found.end() if found else self.at

    def take_false_start(self, end: int, *, cut_off: bool) -> str:
        """Take the character at hand, which looked like the beginning of a tag, as text after all.

        Args:
            end: Index up to which the text looks like a tag; at the end of `text` it may still become one.
            cut_off: Whether it was not the model that ended the text, so that half a tag was to be a whole one.

        Returns:
            The character; nothing while it is to wait, and at the end where half a tag is dropped.
        """
        if end == len(self.text):
            if not self.at_end:
                return ""
            # A lone "<" is more likely an ordinary character than the beginning of a tag.
            if cut_off and len(self.text[self.at :].rstrip()) > 1:
                self.at = end
                return ""
        self.at += 1
        return self.text[self.at - 1]

    def record(self) -> None:
        """Keep what is read from here on."""
        self._earlier = []
        self._record_from = self.at
        self._record_position = self.position

    def recorded(self, start: int | None = None, end: int | None = None) -> str:
        """Return the text between two positions since `record`; by default all that was read."""
        assert self._record_position is not None
        whole = "".join([*self._earlier, self.text[self._record_from : self.at]])
        first = 0 if start is None else start - self._record_position
        return whole[first : None if end is None else end - self._record_position]

    def forget(self) -> None:
        """End the record."""
        self._earlier = []
        self._record_position = None

    def may_return(self, position: int) -> bool:
        """Whether reading again from a position keeps the whole cost linear in the text."""
        return self._read_twice + self.position - position <= self.position

    def go_back(self, position: int) -> None:
        """Return to a position since `record`, and end the record."""
        assert self._record_position is not None
        self._read_twice += self.position - position
        if position >= self._base + self._record_from:
            self.at = position - self._base
        else:
            whole = "".join([*self._earlier, self.text[self._record_from :]])
            self.text = whole[position - self._record_position :]
            self._base = position
            self.at = 0
        self.forget()
