"""The h2 library's HTTP/2 connection, as a client of DNS over HTTPS needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Encoder

if TYPE_CHECKING:
    from hyperframe.frame import GoAwayFrame

_MAX_HEADERS = 16_384  # octets of the fields of one response


class ClientState(H2Connection):
    """A connection whose older streams go on behind a GOAWAY."""

    def __init__(self) -> None:
        # Header fields are bytes both ways. Ours are valid as they stand, and of the server's we
        # use only four.
        super().__init__(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEADERS,
            },
        )
        self.decoder.max_header_list_size = _MAX_HEADERS
        self.encoder = _Encoder()

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> Any:
        """Keep the connection open, since older streams may go on (RFC 9113 section 6.8)."""
        result = super()._receive_goaway_frame(frame)
        self.state_machine.state = ConnectionState.CLIENT_OPEN
        return result


class _Encoder(Encoder):
    """HPACK's encoder, but for the same fields again and again, as our requests have.

    When the same fields have made the same block twice, all of them are in the table, and the block
    stays the same until other fields are encoded.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fields: list[Any] = []
        self._block = b""
        self._settled = False

    def encode(self, headers: Any, huffman: bool = True) -> bytes:  # noqa: FBT002 (as there)
        """Return the block of header fields (RFC 7541)."""
        fields = list(headers)
        same = fields == self._fields and not self.header_table.resized
        if same and self._settled:
            return self._block
        block = super().encode(fields, huffman)
        self._settled = same and block == self._block
        self._fields, self._block = fields, block
        return block
