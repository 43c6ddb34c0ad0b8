"""Simulated quoting over a UNIX socket: one JSON line in, one out, then the connection ends (enclave chapter, 9.1).

{"report_data": base64 of 64 bytes}  →  {"quote": base64}  or  {"error": text}

A request may hold "enclave": {"mr_enclave": hex, "mr_signer": hex, "product_id": n, "svn": n} and is then quoted as
that one, if its MRENCLAVE is a simulated one.
"""

import contextlib
import socketserver
import threading
from pathlib import Path
from typing import Any, Final, final

import msgspec

from uid2.attestation.quote import REPORT_DATA_LENGTH
from uid2.protocol.encoding import decode_base64, encode_base64
from uid2.simtee.platform import SimulatedPlatform
from uid2.simtee.scenario import SimulatedEnclave

LONGEST_LINE: Final = 1024
TIMEOUT_SECONDS: Final = 10.0


@final
class QuotingService:
    """Serves quotes of one enclave on one platform; anyone who may open the socket (mode 0600) gets them."""

    def __init__(self, path: Path, platform: SimulatedPlatform, enclave: SimulatedEnclave) -> None:
        self.platform = platform
        self.enclave = enclave
        self._path = path
        self._server: _Server | None = None

    def start(self) -> None:
        """Binds the socket and answers from threads. OSError: the path cannot be bound."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._server = _Server(str(self._path), self)
        self._path.chmod(0o600)
        threading.Thread(target=self._server.serve_forever, name="quoting", daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._path.unlink(missing_ok=True)
            self._server = None

    def answer(self, line: bytes) -> dict[str, str]:
        """The members of the answer to one line."""
        try:
            request: Any = msgspec.json.decode(line)
            report_data = decode_base64(request["report_data"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            return {"error": "the request is no JSON object with report_data in base64"}
        if len(report_data) != REPORT_DATA_LENGTH:
            return {"error": f"report data has {REPORT_DATA_LENGTH} bytes, not {len(report_data)}"}
        try:
            enclave = self.enclave if request.get("enclave") is None else simulated_enclave(request["enclave"])
        except (KeyError, TypeError, ValueError):
            return {"error": "enclave names no simulated enclave"}
        return {"quote": encode_base64(self.platform.quote(report_data, enclave))}


def simulated_enclave(members: dict[str, Any]) -> SimulatedEnclave:
    """The enclave of a record. Raises ValueError for a MRENCLAVE that a real enclave could have."""
    mr_enclave, mr_signer = (bytes.fromhex(members[name]) for name in ("mr_enclave", "mr_signer"))
    product_id, svn = members["product_id"], members["svn"]
    if len(mr_enclave) != 32 or len(mr_signer) != 32 or any(mr_enclave[:8]):
        raise ValueError("not a simulated MRENCLAVE")
    if not all(type(number) is int and 0 <= number < 1 << 16 for number in (product_id, svn)):
        raise ValueError("product id and SVN have 16 bits")
    return SimulatedEnclave(mr_enclave, mr_signer, product_id, svn)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, service: QuotingService) -> None:
        self.service = service
        super().__init__(path, _Connection)


class _Connection(socketserver.StreamRequestHandler):
    timeout = TIMEOUT_SECONDS

    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        with contextlib.suppress(OSError):
            line = self.rfile.readline(LONGEST_LINE)
            self.wfile.write(msgspec.json.encode(self.server.service.answer(line)) + b"\n")
