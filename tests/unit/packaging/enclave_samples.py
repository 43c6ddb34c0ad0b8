"""A signing key and a small synthetic enclave."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

from uid2.packaging.synthetic import SyntheticEnclave, synthetic_library


@cache
def signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=3, key_size=3072)


SAMPLE = SyntheticEnclave(
    content=bytes(range(32)),
    kernel_heap=1 << 20,
    user_space=4 << 20,
    threads=3,
    thread_stack=8192,
    product_id=770,
    svn=2,
    date="20260131",
)


@cache
def sample_library() -> bytes:
    return synthetic_library(SAMPLE, signing_key())
