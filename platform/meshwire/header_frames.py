"""Headers as they come, over however many frames."""

from typing import Final

from meshwire import frames
from meshwire.frames import END_HEADERS, END_STREAM, ConnectionFault
from meshwire.header_reader import HeaderReader
from meshwire.headers import Headers


class HeaderFrames:
    """Reads those of one connection: all of them, even where nobody wants them."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: of the headers of one stream, packed and not."""
        self._most_bytes: Final = most_bytes
        self._reader: Final = HeaderReader(most_bytes)
        # Whether there are headers that must go on before anything else comes.
        self.is_open = False
        # Their stream, their flags and what is there of them.
        self._block: tuple[int, int, bytearray] = (0, 0, bytearray())

    def begin(self, flags: int, number: int, content: bytes) -> tuple[Headers, bool] | None:
        """The headers of a frame, and whether they end the stream; None while they go on.

        Raises ConnectionFault.
        """
        content = frames.unpadded(flags, content)
        if flags & frames.WITH_PRIORITY:
            if len(content) < frames.PRIORITY_BYTES:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "headers without their priority")
            frames.check_priority(number, content)
            content = content[frames.PRIORITY_BYTES :]
        if flags & END_HEADERS:
            return self._reader.read(content), bool(flags & END_STREAM)
        self.is_open, self._block = True, (number, flags, bytearray(content))
        return None

    def go_on(self, flags: int, number: int, content: bytes) -> tuple[Headers, bool] | None:
        """As `begin`, for a CONTINUATION."""
        first, first_flags, block = self._block
        if not self.is_open or first != number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "headers that go on without a beginning")
        block += content
        if len(block) > self._most_bytes or (not content and not flags & END_HEADERS):
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "headers that are too large")
        if not flags & END_HEADERS:
            return None
        self.is_open = False
        return self._reader.read(bytes(block)), bool(first_flags & END_STREAM)
