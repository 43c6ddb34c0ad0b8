"""Client-side token generation from a web page: WebCrypto, CORS and the origin rules as a browser has them."""

import json

import pytest
from chromium import Browser

from running_stack import Stack

pytestmark = pytest.mark.slow


def parameters(stack: Stack, email: str = "someone@example.com") -> dict[str, str]:
    (file,) = stack.state.rglob("credentials.json")
    credentials = json.loads(file.read_text())
    return {
        "operator": stack.url,
        "subscription_id": credentials["subscription_id"],
        "public_key": credentials["client_side_public_key"],
        "email": email,
    }


@pytest.mark.parametrize("host", ["localhost", "example.com", "www.example.com"])
def test_a_page_of_the_site_gets_a_token_and_refreshes_it(browser: Browser, stack: Stack, host: str) -> None:
    result = browser.result(host, parameters(stack))
    assert result.get("status") == 200, result
    assert result["origin"].startswith(f"http://{host}:")
    token = result["answer"]["body"]["advertising_token"]
    assert result["shown"] == token
    assert result["refreshed"]["status"] == "success"
    assert result["refreshed"]["body"]["advertising_token"] != token


@pytest.mark.parametrize("host", ["127.0.0.1", "elsewhere.test", "example.com.elsewhere.test", "notexample.com"])
def test_a_page_of_another_site_is_refused_and_can_read_why(browser: Browser, stack: Stack, host: str) -> None:
    result = browser.result(host, parameters(stack))
    assert result.get("status") == 403, result
    assert result["refused"]["status"] == "invalid_http_origin"
    assert "advertising_token" not in json.dumps(result)


def test_an_opted_out_person_gets_no_token(browser: Browser, stack: Stack) -> None:
    result = browser.result("localhost", parameters(stack, "optout@example.com"))
    assert result["answer"] == {"status": "optout"}


def test_a_wrong_key_pair_is_told(browser: Browser, stack: Stack) -> None:
    result = browser.result("localhost", parameters(stack) | {"subscription_id": "unknown"})
    assert (result["status"], result["refused"]["message"]) == (400, "bad subscription_id")
