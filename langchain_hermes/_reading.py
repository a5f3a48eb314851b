"""Output parsers that read a stream piece by piece, and say of the whole what they say of its pieces."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import ConfigDict

from langchain_hermes._errors import langchain_errors, made

T = TypeVar("T")
Piece = str | BaseMessage


class Reader(Protocol[T]):
    """Reads one output; it needs no clock, no thread and no event loop."""

    def feed(self, piece: Piece) -> list[T]:
        """Read on and return what is new."""

    def close(self, finish_reason: str | None = None) -> list[T]:
        """Say that the output ends here, and why where no message told; return what is left."""


class ReadingOutputParser(BaseTransformOutputParser[T]):
    """An output parser over a `Reader`: the same reader serves whole outputs and streams, sync and async."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    def __init__(self, **options: Any) -> None:
        with made():
            super().__init__(**options)

    @abstractmethod
    def _reader(self) -> Reader[T]:
        """Return what reads one output."""

    @abstractmethod
    def _whole(self, parts: list[T]) -> T:
        """Return what the parts of a whole output come to."""

    def parse(self, text: str) -> T:
        """Read a whole text."""
        return self.parse_result([Generation(text=text)])

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> T:
        """Read a whole output; with `partial` one that still goes on."""
        first = result[0]
        info = first.generation_info or {}
        with langchain_errors():
            reader = self._reader()
            parts = reader.feed(first.message if isinstance(first, ChatGeneration) else first.text)
            return self._whole(parts if partial else [*parts, *reader.close(info.get("finish_reason"))])

    async def aparse_result(self, result: list[Generation], *, partial: bool = False) -> T:
        """Read what `parse_result` reads; nothing waits, so there is no thread."""
        return self.parse_result(result, partial=partial)

    async def aparse(self, text: str) -> T:
        """Read what `parse` reads."""
        return self.parse(text)

    def _transform(self, input: Iterator[Piece]) -> Iterator[T]:  # noqa: A002 - LangChain's name
        with langchain_errors():
            reader = self._reader()
            for piece in input:
                yield from reader.feed(piece)
            yield from reader.close()

    async def _atransform(self, input: AsyncIterator[Piece]) -> AsyncIterator[T]:  # noqa: A002 - LangChain's name
        with langchain_errors():
            reader = self._reader()
            async for piece in input:
                for part in reader.feed(piece):
                    yield part
            for part in reader.close():
                yield part
