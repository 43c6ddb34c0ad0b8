import hashlib

from uid2.attestation.binding import endpoint_of, evidence_report_data, report_data_v1, report_data_v2


def test_version_1_is_the_digest_of_the_key() -> None:
    assert report_data_v1(b"key") == hashlib.sha256(b"key").digest() + bytes(32)


def test_version_2_as_the_design_draws_it() -> None:
    text = b"uid2-azure-sgx-v2\0" + b"\0\0\0\x03key" + b"\0\0\0\x05nonce" + b"\0\0\0\x08http://a"
    assert report_data_v2(b"key", b"nonce", "http://a") == hashlib.sha256(text).digest() + bytes(32)


def test_parts_cannot_be_shifted_into_each_other() -> None:
    assert report_data_v2(b"keyn", b"once", "http://a") != report_data_v2(b"key", b"nonce", "http://a")


def test_evidence_is_never_report_data_of_an_attestation() -> None:
    assert evidence_report_data(b"nonce", b"digest") != report_data_v2(b"nonce", b"digest", "")
    assert evidence_report_data(b"a", b"digest") != evidence_report_data(b"b", b"digest")


def test_endpoint() -> None:
    assert endpoint_of("https://core.example.com:8443/attest?x=1#y") == "https://core.example.com:8443"
    assert endpoint_of("http://127.0.0.1:8088/attest") == "http://127.0.0.1:8088"
