"""A call that waits for an answer ends when another thread shuts the sockets of its client, with TLS or without."""

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from uid2.protocol.errors import StoreUnavailableError
from uid2.stores.sources.open_sockets import OpenSockets
from uid2.stores.sources.presigned import PresignedSource

PATIENT = httpx.Timeout(120.0)


class SilentServer:
    """Takes a request, says so in `asked`, and never answers."""

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._listener = listener
        self._tls = tls
        self.asked = threading.Event()
        self.ended = threading.Event()
        self.origin = f"{'http' if tls is None else 'https'}://localhost:{listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        plain, _ = self._listener.accept()
        connection = plain if self._tls is None else self._tls.wrap_socket(plain, server_side=True)
        with connection:
            connection.recv(1)
            self.asked.set()
            try:
                while connection.recv(1 << 16):
                    pass
            except OSError:
                pass
            self.ended.set()


@contextmanager
def silent(tls: ssl.SSLContext | None = None) -> Iterator[SilentServer]:
    with socket.create_server(("localhost", 0)) as listener:
        yield SilentServer(listener, tls)


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SilentServer]:
    context = None
    if request.param == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path / "server.pem"))
    with silent(context) as server:
        yield server


def certificate(file: Path) -> Path:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    return file


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_a_call_that_waits_ends(server: SilentServer) -> None:
    sockets, problems = OpenSockets(), list[Exception]()
    client = httpx.Client(verify=unverified(), timeout=PATIENT, trust_env=False)

    def call() -> None:
        try:
            client.get(server.origin, extensions=sockets.extensions)
        except httpx.HTTPError as error:
            problems.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert server.asked.wait(60)
    sockets.shut()
    thread.join(60)
    assert (thread.is_alive(), len(problems)) == (False, 1)
    assert not isinstance(problems[0], httpx.TimeoutException)
    assert server.ended.wait(60)
    client.close()


def test_a_connection_that_opens_after_the_end_is_shut_at_once() -> None:
    sockets = OpenSockets()
    sockets.shut()
    with silent() as server, httpx.Client(timeout=PATIENT, trust_env=False) as client:
        with pytest.raises(httpx.TransportError) as caught:
            client.get(server.origin, extensions=sockets.extensions)
        assert not isinstance(caught.value, httpx.TimeoutException)
        assert server.ended.wait(60)


def test_a_read_of_a_signed_address_ends_with_its_source() -> None:
    source = PresignedSource()
    with silent() as server:
        threading.Thread(target=lambda: server.asked.wait(60) and source.close()).start()
        with pytest.raises(StoreUnavailableError) as caught:
            source.read(f"{server.origin}/file?signature=hidden")
    assert "Timeout" not in caught.value.message
    assert "hidden" not in caught.value.diagnosis()
