"""A server's stream of events is read the same however it is cut into chunks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.engines.server.events import EventReader
from tests.support.faulty_server import event


@given(st.lists(st.text(), max_size=5), st.data())
def test_any_chunking_of_a_stream_reads_the_same(texts, data):
    stream = (
        b": hi\n\nevent: message\r\nid: 4\r\n"
        + b"".join(event(text) for text in texts)
        + b"data: [DONE]\r\n\r\ndata: {}\n\n"
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = EventReader()
    read = [
        found["choices"][0]["text"]
        for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for found in reader.feed(stream[start:stop])
    ]
    assert read == texts
    assert reader.is_done
