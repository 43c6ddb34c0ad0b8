"""The safety net under the logs: text that looks like an identity, a token or a key is masked.

Code never logs such values; this catches what a library's message might carry.
"""

import re
from typing import Final

MASK: Final = "<redacted>"

# Not masked: the id of a key (five characters after the site, then the end) and the public measurement of an enclave.
_KEY_ID = r"\d+-[A-Za-z0-9+/]{5}(?![^\s\\\"',;)])"
_CLIENT_KEY = re.compile(
    rf"\b(?:UID2|EUID)-[A-Z]-[A-Z]-(?!{_KEY_ID})[^\s\\\"',;]+|\b(?:UID2|EUID)-[A-Z]-\d+-[^\s\\\"',;]+"
)
_BEARER = re.compile(r"(?i)\bbearer\s+[^\s\\\"',;]+")
_EMAIL = re.compile(r"[A-Za-z0-9._%+'-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
_PHONE = re.compile(r"\+\d{8,15}\b")
_HEX = re.compile(r"(?<!mr_enclave=)(?<!mr_signer=)\b[0-9A-Fa-f]{32,}\b")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
# The name of an opt-out file as far as its first dot; whoever has a damaged file to replace needs it.
_OPTOUT_FILE = re.compile(r"optout-[a-z]+--?\d{2,}_\d{4}-\d{2}-\d{2}T\d{2}\Z")


def redact(text: str) -> str:
    for pattern in (_CLIENT_KEY, _BEARER, _EMAIL, _PHONE, _HEX):
        text = pattern.sub(MASK, text)
    return _BASE64.sub(_mask_if_encoded, text)


def _mask_if_encoded(match: re.Match[str]) -> str:
    """Names and paths are of one case or hold no digit; encoded bytes of this length mix all three."""
    run = _OPTOUT_FILE.sub("", match[0])
    mixed = any(c.isdigit() for c in run) and any(c.isupper() for c in run) and any(c.islower() for c in run)
    return MASK if mixed or run.endswith("=") else match[0]
