"""Sources of a connection's settings, and their names in messages: `_settings.py`."""

from __future__ import annotations

from typing import ClassVar

import pytest

from pulumi_traceloop._settings import Connection, Settings, connection
from pulumi_traceloop.errors import ConfigurationError

NO_SETTINGS: dict[str, str] = {}


def settings_of(given: Connection) -> tuple[str | None, str | None, float]:
    return given.api_key, given.base_url, given.deadline


class TestConnection:
    SETTINGS: ClassVar[dict[str, str]] = {
        "traceloop:apiKey": "key",
        "traceloop:baseUrl": "https://config.example",
        "traceloop:deadline": "7.5",
    }
    ENVIRONMENT: ClassVar[dict[str, str]] = {
        "TRACELOOP_API_KEY": "env-key",
        "TRACELOOP_BASE_URL": "https://env.example",
        "TRACELOOP_DEADLINE": "8",
    }

    def test_comes_from_the_configuration(self) -> None:
        given = connection(self.SETTINGS.get, {})
        assert settings_of(given) == ("key", "https://config.example", 7.5)

    def test_comes_from_the_environment(self) -> None:
        given = connection(NO_SETTINGS.get, self.ENVIRONMENT)
        assert settings_of(given) == ("env-key", "https://env.example", 8.0)

    @pytest.mark.parametrize("name", list(SETTINGS))
    def test_takes_each_setting_from_the_configuration_first(self, name: str) -> None:
        given = settings_of(connection({name: self.SETTINGS[name]}.get, self.ENVIRONMENT))
        without = settings_of(connection(NO_SETTINGS.get, self.ENVIRONMENT))
        changed = [a != b for a, b in zip(given, without, strict=True)]
        assert changed == [each == name for each in self.SETTINGS]

    def test_has_defaults_for_all_but_the_key(self) -> None:
        assert settings_of(connection(NO_SETTINGS.get, {})) == (None, None, 60.0)

    def test_empty_settings_count_as_missing(self) -> None:
        given = connection(dict.fromkeys(self.SETTINGS, "").get, {})
        assert settings_of(given) == (None, None, 60.0)

    @pytest.mark.parametrize("deadline", ["soon", "0", "-1", "nan", "inf", "1e999", "60 s"])
    def test_rejects_an_invalid_deadline(self, deadline: str) -> None:
        with pytest.raises(ConfigurationError, match=f'not "{deadline}"'):
            connection({"traceloop:deadline": deadline}.get, {})

    def test_rejects_an_invalid_deadline_of_the_environment(self) -> None:
        with pytest.raises(ConfigurationError, match='not "soon"'):
            connection(NO_SETTINGS.get, {"TRACELOOP_DEADLINE": "soon"})

    @pytest.mark.parametrize("allowed", ["yes", "1", "on"])
    def test_rejects_an_invalid_boolean(self, allowed: str) -> None:
        with pytest.raises(
            ConfigurationError, match=r"^TRACELOOP_ALLOW_HTTP must be true or false"
        ):
            connection(NO_SETTINGS.get, {"TRACELOOP_ALLOW_HTTP": allowed})

    @pytest.mark.parametrize(
        ("settings", "environment", "name"),
        [
            ({"traceloop:deadline": "x"}, {"TRACELOOP_DEADLINE": "1"}, "traceloop:deadline"),
            ({}, {"TRACELOOP_DEADLINE": "x"}, "TRACELOOP_DEADLINE"),
            ({"other:deadline": "x"}, {}, "other:deadline"),
        ],
    )
    def test_error_names_the_setting_that_is_set(
        self, settings: dict[str, str], environment: dict[str, str], name: str
    ) -> None:
        namespace = "other" if name.startswith("other") else None
        with pytest.raises(ConfigurationError, match=f"^{name} must be"):
            connection(settings.get, environment, namespace)


class TestAnotherNamespace:
    """It is for another project: it needs a key, and may override the rest."""

    def test_does_not_inherit_the_key(self) -> None:
        given = connection({"traceloop:apiKey": "k"}.get, {"TRACELOOP_API_KEY": "e"}, "other")
        assert given.api_key is None

    @pytest.mark.parametrize(
        ("settings", "environment", "url", "name"),
        [
            ({"traceloop:baseUrl": "https://a"}, {}, "https://a", "traceloop:baseUrl"),
            ({}, {"TRACELOOP_BASE_URL": "https://b"}, "https://b", "TRACELOOP_BASE_URL"),
            (
                {"traceloop:baseUrl": "https://a", "other:baseUrl": "https://c"},
                {"TRACELOOP_BASE_URL": "https://b"},
                "https://c",
                "other:baseUrl",
            ),
        ],
    )
    def test_inherits_the_base_url(
        self, settings: dict[str, str], environment: dict[str, str], url: str, name: str
    ) -> None:
        given = connection(settings.get, environment, "other")
        assert given.base_url == url
        assert given.settings.name("baseUrl") == name

    def test_inherits_allow_http_with_the_base_url(self) -> None:
        settings = {"traceloop:baseUrl": "http://a.example", "traceloop:allowHttp": "true"}
        assert connection(settings.get, {}, "other").allow_http
        assert not connection({**settings, "other:baseUrl": "http://c"}.get, {}, "other").allow_http

    def test_inherits_the_deadline(self) -> None:
        assert connection({"traceloop:deadline": "7"}.get, {}, "other").deadline == 7
        assert connection(NO_SETTINGS.get, {"TRACELOOP_DEADLINE": "8"}, "other").deadline == 8

    def test_of_the_same_name_is_the_default_one(self) -> None:
        environment = {"TRACELOOP_API_KEY": "e"}
        assert connection(NO_SETTINGS.get, environment, "traceloop") == connection(
            NO_SETTINGS.get, environment
        )


class TestNames:
    def test_if_nothing_is_set(self) -> None:
        assert Settings().name("apiKey") == "traceloop:apiKey (or TRACELOOP_API_KEY)"
        assert Settings("other").name("apiKey") == "other:apiKey"
        assert Settings("").name("apiKey") == "TRACELOOP_API_KEY"

    @pytest.mark.parametrize(
        ("settings", "name"),
        [({"traceloop:apiKey": "c"}, "traceloop:apiKey"), ({}, "TRACELOOP_API_KEY")],
    )
    def test_if_one_is_set(self, settings: dict[str, str], name: str) -> None:
        given = connection(settings.get, {"TRACELOOP_API_KEY": "e"})
        assert given.settings.name("apiKey") == name

    def test_how_to_set_one(self) -> None:
        def key(namespace: str) -> str:
            return Settings(namespace).how_to_set("apiKey", "<key>", secret=True)

        assert key("traceloop") == (
            "run `pulumi config set --secret traceloop:apiKey <key>` or set the environment"
            " variable TRACELOOP_API_KEY"
        )
        assert key("other") == "run `pulumi config set --secret other:apiKey <key>`"
        assert key("") == "set the environment variable TRACELOOP_API_KEY"
