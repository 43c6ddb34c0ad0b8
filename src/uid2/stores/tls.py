"""What HTTPS clients trust."""

import functools
import ssl

import httpx


@functools.cache
def trusted_roots() -> ssl.SSLContext:
    """The public roots that come with the libraries; the environment names no others. One for the process, because
    reading them takes longer than a request."""
    return httpx.create_ssl_context(trust_env=False)
