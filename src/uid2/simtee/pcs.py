"""The collateral of simulated platforms under the paths and headers of the PCS, v4 (enclave chapter, 2.6, 9.1)."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote

from uid2.simtee.platform import SignedDocument, SimulatedPlatform

BASE: Final = "/sgx/certification/v4"
_JSON: Final = "application/json"
_DER: Final = "application/pkix-crl"

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class PcsAnswer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] | None = None


def answer(platform: SimulatedPlatform, path: str, query: str, old_names: bool = False) -> PcsAnswer:
    """The document under `path`; `old_names` spells the header of the TCB chain as services before version 4 did."""
    hierarchy, wanted = platform.hierarchy, parse_qs(query)
    match path.removeprefix(BASE):
        case "/tcb":
            known = platform.scenario.fmspc.lower()
            if wanted.get("fmspc", [""])[0].lower() != known:
                return PcsAnswer(404)
            name = "SGX-TCB-Info-Issuer-Chain" if old_names else "TCB-Info-Issuer-Chain"
            return _signed("tcbInfo", platform.tcb_info, name, hierarchy.signer_chain)
        case "/qe/identity":
            chain = hierarchy.signer_chain
            return _signed("enclaveIdentity", platform.qe_identity, "SGX-Enclave-Identity-Issuer-Chain", chain)
        case "/pckcrl":
            authority = "platform" if platform.scenario.platform_authority else "processor"
            if wanted.get("ca", [""])[0] != authority:
                return PcsAnswer(404)
            crl = hierarchy.pck_crl
            body = crl if wanted.get("encoding", [""])[0] == "der" else crl.hex().encode()
            return PcsAnswer(200, body, _headers(_DER, "SGX-PCK-CRL-Issuer-Chain", hierarchy.pck_crl_chain))
        case "/rootcacrl":
            return PcsAnswer(200, hierarchy.root_crl.hex().encode(), {"Content-Type": _DER})
        case _:
            return PcsAnswer(404)


class PcsApplication:
    """ASGI. `platform` may be replaced between two requests, so that one server shows many scenarios."""

    def __init__(self, platform: SimulatedPlatform, old_names: bool = False) -> None:
        self.platform = platform
        self.old_names = old_names

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:  # noqa: ARG002
        if scope["type"] != "http":
            return
        query = scope["query_string"].decode("latin-1")
        found = answer(self.platform, scope["path"], query, self.old_names)
        headers = [(name.lower().encode(), value.encode()) for name, value in (found.headers or {}).items()]
        await send({"type": "http.response.start", "status": found.status, "headers": headers})
        await send({"type": "http.response.body", "body": found.body})


def _signed(member: str, document: SignedDocument, header: str, chain: str) -> PcsAnswer:
    # The text is placed as it was signed: encoding it again could change it.
    body = f'{{"{member}":{document.text},"signature":"{document.signature.hex()}"}}'
    return PcsAnswer(200, body.encode(), _headers(_JSON, header, chain))


def _headers(content_type: str, name: str, chain: str) -> dict[str, str]:
    return {"Content-Type": content_type, name: quote(chain)}
