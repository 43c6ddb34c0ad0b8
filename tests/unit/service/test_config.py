import json
from pathlib import Path
from typing import Any

import pytest

from uid2.protocol.errors import ConfigurationError
from uid2.service.config import ConfigKey, Configuration, Kind, load_configuration

KEYS = (
    ConfigKey("identity_scope", default="uid2"),
    ConfigKey("service_instances", Kind.INTEGER, 4),
    ConfigKey("share", Kind.NUMBER, 0.5),
    ConfigKey("storage_mock", Kind.BOOLEAN, False),
    ConfigKey("anything", Kind.ANY),
    ConfigKey("needed", Kind.INTEGER),
    ConfigKey("core_api_token", secret=True),
    ConfigKey("optout_api_token", secret=True),
    ConfigKey("dangerous_simulated_tee", Kind.BOOLEAN, False),
    ConfigKey("port_offset", Kind.INTEGER, 0),
)


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load_with(
        document: dict[str, Any] | None = None, environ: dict[str, str] | None = None, default: Any = None
    ) -> Configuration:
        environ = dict(environ or {})
        if default is not None:
            default_file = tmp_path / "default.json"
            default_file.write_text(json.dumps(default))
            environ["VERTX_DEFAULT_CONFIG_PATH"] = str(default_file)
        file = tmp_path / "own.json"
        file.write_text(json.dumps(document or {}))
        return load_configuration(KEYS, file, environ, accepted=["enforce_https"], folder=tmp_path / "none")

    return load_with


def test_later_layers_win_and_the_override_file_beats_the_environment(load: Any) -> None:
    default = {"identity_scope": "a", "service_instances": 1, "share": 0.1}
    configuration = load({"share": 0.3}, {"service_instances": "2", "share": "0.2"}, default)
    assert configuration.text("identity_scope") == "a"
    assert configuration.integer("service_instances") == 2
    assert configuration.number("share") == 0.3
    assert load().integer("service_instances") == 4


def test_null_means_unset(load: Any) -> None:
    assert load({"identity_scope": None}, default={"identity_scope": "euid"}).text("identity_scope") == "euid"
    assert load({"core_api_token": None}).secret("core_api_token") is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("service_instances", "7", 7),
        ("storage_mock", "true", True),
        ("storage_mock", "TRUE", True),
        ("share", "1e-1", 0.1),
        ("anything", '{"a": [1]}', {"a": [1]}),
        ("anything", "plain", "plain"),
        ("core_api_token", "12345", "12345"),
        ("core_api_token", "007", "007"),
    ],
)
def test_environment_values_are_converted_to_the_form_of_their_key(
    load: Any, name: str, text: str, value: object
) -> None:
    assert load(environ={name: text}).get(name) == value


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("service_instances", "many", "a whole number"),
        ("service_instances", 1.5, "a whole number"),
        ("service_instances", True, "a whole number"),
        ("storage_mock", 1, "true or false"),
        ("share", "half", "a number"),
        ("identity_scope", {"a": 1}, "a text"),
    ],
)
def test_a_malformed_value_names_key_source_and_form(load: Any, name: str, value: object, form: str) -> None:
    with pytest.raises(ConfigurationError, match=form) as caught:
        load({name: value})
    assert name in str(caught.value)
    assert "own.json" in str(caught.value)


def test_the_value_of_a_secret_stands_in_no_message(load: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"core_api_token": ["canary"]})
    assert "canary" not in caught.value.diagnosis()
    configuration = load({"core_api_token": "canary", "unknown_thing": "canary"})
    assert "canary" not in repr(configuration)
    assert configuration.secret("core_api_token").reveal() == b"canary"


def test_an_unknown_key_is_warned_about_with_the_nearest_one(load: Any) -> None:
    configuration = load({"servce_instances": 2, "enforce_https": True}, {"servce_instances": "3"})
    assert len(configuration.warnings) == 1
    assert "did you mean service_instances?" in configuration.warnings[0]
    assert configuration.integer("service_instances") == 4


def test_port_offset_comes_from_the_environment_alone(load: Any) -> None:
    assert load({"port_offset": 5}).integer("port_offset") == 0
    assert load({"port_offset": 5}, {"port_offset": "10"}).integer("port_offset") == 10
    with pytest.raises(ConfigurationError, match="port_offset"):
        load(environ={"port_offset": "ten"})


def test_a_needed_key_without_a_value(load: Any) -> None:
    with pytest.raises(ConfigurationError, match="needed has no value"):
        load().integer("needed")


@pytest.mark.parametrize("environment", ["prod", "INTEG"])
def test_dangerous_keys_are_for_development(load: Any, environment: str) -> None:
    assert load({"dangerous_simulated_tee": True, "environment": "development"}).boolean("dangerous_simulated_tee")
    assert not load({"dangerous_simulated_tee": False, "environment": environment}).boolean("dangerous_simulated_tee")
    with pytest.raises(ConfigurationError, match="dangerous_simulated_tee"):
        load({"dangerous_simulated_tee": True, "environment": environment})
    with pytest.raises(ConfigurationError, match="dangerous_unheard_of"):
        load({"dangerous_unheard_of": "x", "environment": environment})


def test_a_sealed_configuration_takes_two_tokens_from_outside(load: Any) -> None:
    configuration = load(
        {"sealed": True, "service_instances": 1},
        {"service_instances": "9", "identity_scope": "euid", "core_api_token": "k", "optout_api_token": "o"},
    )
    assert configuration.sealed
    assert configuration.integer("service_instances") == 1
    assert configuration.text("identity_scope") == "uid2"
    assert (configuration.text("core_api_token"), configuration.text("optout_api_token")) == ("k", "o")


@pytest.mark.parametrize(
    ("document", "environ"),
    [
        ({}, {"port_offset": "10"}),
        ({}, {"VERTX_CONFIG_PATH": "/elsewhere"}),
        ({}, {"VERTX_DEFAULT_CONFIG_PATH": ""} | {"VERTX_CONFIG_PATH": "x"}),
        ({}, {"dangerous_simulated_tee": "true"}),
        ({"dangerous_simulated_tee": True}, {}),
    ],
)
def test_a_sealed_configuration_refuses_what_would_open_it(
    load: Any, document: dict[str, Any], environ: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match="sealed"):
        load({"sealed": True, **document}, environ)


def test_the_environment_cannot_unseal(load: Any) -> None:
    with pytest.raises(ConfigurationError, match="sealed"):
        load({"sealed": True}, {"sealed": "false", "port_offset": "1"})


@pytest.mark.parametrize(("environ", "expected"), [({}, "local"), ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "cluster")])
def test_the_override_file_is_found_as_the_reference_finds_it(
    tmp_path: Path, environ: dict[str, str], expected: str
) -> None:
    (tmp_path / "default-config.json").write_text('{"identity_scope": "default"}')
    (tmp_path / "local-config.json").write_text('{"identity_scope": "local"}')
    (tmp_path / "config.json").write_text('{"identity_scope": "cluster"}')
    assert load_configuration(KEYS, None, environ, folder=tmp_path).text("identity_scope") == expected
    named = tmp_path / "named.properties"
    named.write_text("# a comment\nidentity_scope = named\nservice_instances: 3\n\n")
    configuration = load_configuration(KEYS, None, {**environ, "VERTX_CONFIG_PATH": str(named)}, folder=tmp_path)
    assert (configuration.text("identity_scope"), configuration.integer("service_instances")) == ("named", 3)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "a: 1", "not supported"),
        ("a.json", "[1]", "one JSON object"),
        ("a", "{", "one JSON object"),
        ("a.properties", "no separator", "line 1"),
        (None, None, "cannot be read"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str | None, text: str | None, words: str) -> None:
    file = tmp_path / (name or "missing.json")
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_configuration(KEYS, file, {}, folder=tmp_path)
    assert str(file) in str(caught.value)
