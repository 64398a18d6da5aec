"""Settings from flags and the environment."""

from pathlib import Path

import pytest

from backstory.engine.settings import SETTINGS, SettingError, Settings, Value, load, unknown_variables

DATA = {"BACKSTORY_DATA": "/data"}


def test_the_defaults() -> None:
    """With nothing but a data folder everything has a value."""
    found = load(DATA)
    assert found.data == Path("/data")
    assert (found.host, found.port) == ("127.0.0.1", 8080)
    assert (found.site_id, found.track_key, found.app_key, found.cdp_key) == (None, None, None, None)
    assert (found.smtp_url, found.send) == (None, "mailbox")
    assert found.trigger_age_hours == 72
    assert found.duckdb_memory_mb == 1000
    assert 1 <= found.duckdb_threads <= 4
    assert found.temp_folder == Path("/data/tmp")
    assert (found.retry_in_doubt, found.tls_dev) == (False, False)


def test_a_flag_wins_over_the_environment() -> None:
    """Overrides come first, then the environment, then the default; None and empty variables are not given."""
    environment = {**DATA, "BACKSTORY_PORT": "9000", "BACKSTORY_HOST": ""}
    assert load(environment).port == 9000
    assert load(environment, {"port": 9001, "host": None}).port == 9001
    assert load(environment, {"port": "9002"}).port == 9002
    assert load(environment, {"port": None}).port == 9000
    assert load(environment).host == "127.0.0.1"


def test_a_mail_server_means_sending() -> None:
    """send is live when a mail server is named, unless it says otherwise."""
    environment = {**DATA, "BACKSTORY_SMTP_URL": "smtps://user:pass@mail.example.com:465"}
    assert load(environment).send == "live"
    assert load({**environment, "BACKSTORY_SEND": "off"}).send == "off"


@pytest.mark.parametrize(
    ("environment", "overrides", "message"),
    [
        ({}, {}, "no data folder: give --data DIR or set BACKSTORY_DATA"),
        ({**DATA, "BACKSTORY_PORT": "http"}, {}, "BACKSTORY_PORT must be a whole number from 0 to 65535, not 'http'"),
        (DATA, {"port": 65536}, "--port must be a whole number from 0 to 65535, not '65536'"),
        (DATA, {"port": True}, "--port must be a whole number from 0 to 65535, not 'true'"),
        (DATA, {"host": ""}, "--host is empty: give a value or leave it out"),
        (DATA, {"host": "http://x"}, "--host must be a host name or an address"),
        (DATA, {"send": "perhaps"}, "--send must be live (send), mailbox"),
        (DATA, {"send": "live"}, "send is live but no mail server is named"),
        (DATA, {"send_per_s": "nan"}, "--send-per-s must be a number from 0.001 to 100000, not 'nan'"),
        (DATA, {"send_per_s": "0"}, "--send-per-s must be a number"),
        (DATA, {"tls_dev": "maybe"}, "--tls-dev must be true or false"),
        (DATA, {"tls_cert": "c.pem"}, "--tls-cert and --tls-key go together"),
        (DATA, {"tls_key": "k.pem"}, "--tls-cert and --tls-key go together"),
        (DATA, {"tls_cert": "c.pem", "tls_key": "k.pem", "tls_dev": True}, "--tls-dev makes its own certificate"),
        (DATA, {"site_id": "a:b"}, "--site-id must not hold a colon"),
        (DATA, {"app_key": "a b"}, "--app-key must be 1 to 200 ASCII characters without blanks"),
        ({**DATA, "BACKSTORY_SMTP_URL": "mail.example.com"}, {}, "BACKSTORY_SMTP_URL must look like smtp://"),
        ({**DATA, "BACKSTORY_SMTP_URL": "smtp://h:99999"}, {}, "BACKSTORY_SMTP_URL must hold a port"),
        (DATA, {"colour": "red"}, "there is no setting 'colour'"),
    ],
)
def test_a_wrong_setting_says_which_and_why(
    environment: dict[str, str], overrides: dict[str, Value], message: str
) -> None:
    """The error names the flag or the variable, what it takes, and what it got."""
    with pytest.raises(SettingError) as caught:
        load(environment, overrides)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("name", "value"), [("app_key", "s3cret key"), ("smtp_url", "s3cret")])
def test_secrets_are_never_shown(name: str, value: str) -> None:
    """Neither an error nor the printed settings give a secret away."""
    with pytest.raises(SettingError) as caught:
        load(DATA, {name: value})
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(load(DATA, {"app_key": "s3cret"}))


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("On", True), ("no", False), ("0", False)])
def test_booleans_have_their_words(text: str, value: bool) -> None:
    """The usual words for yes and no are understood."""
    assert load({**DATA, "BACKSTORY_RETRY_IN_DOUBT": text}).retry_in_doubt is value


def test_the_table_is_the_settings() -> None:
    """Each field has a row with help, each row a field; each default reads back as itself."""
    fields = list(Settings.__dataclass_fields__)
    assert [setting.name for setting in SETTINGS] == fields
    for setting in SETTINGS:
        assert setting.help
        assert setting.variable == f"BACKSTORY_{setting.name.upper()}"
        if setting.default is not None:
            text = str(setting.default).lower() if isinstance(setting.default, bool) else str(setting.default)
            assert setting.read(text) == setting.default


def test_misspelt_variables_are_told() -> None:
    """A variable that looks like a setting and is none is told with the nearest name."""
    environment = {**DATA, "BACKSTORY_PROT": "80", "BACKSTORY_QQQQQ": "1", "PATH": "/bin"}
    assert unknown_variables(environment) == [
        "BACKSTORY_PROT is no setting; did you mean BACKSTORY_PORT?",
        "BACKSTORY_QQQQQ is no setting",
    ]


def test_misspelt_variables_are_refused() -> None:
    """Whoever mistyped the workspace would work on another one; the error names the setting that was meant."""
    with pytest.raises(SettingError, match="BACKSTORY_WORKSPAEC is no setting; did you mean BACKSTORY_WORKSPACE"):
        load({**DATA, "BACKSTORY_WORKSPAEC": "staging"})
    with pytest.raises(SettingError, match="did you mean BACKSTORY_DATA"):
        load({"BACKSTORY_DATAA": "/data"})


def test_what_kubernetes_tells_of_a_service_is_no_setting() -> None:
    """A service with our name puts variables into every container, which set nothing."""
    told = {
        "BACKSTORY_PORT": "tcp://10.0.0.11:8000",
        "BACKSTORY_PORT_8000_TCP": "tcp://10.0.0.11:8000",
        "BACKSTORY_PORT_8000_TCP_ADDR": "10.0.0.11",
        "BACKSTORY_SERVICE_HOST": "10.0.0.11",
        "BACKSTORY_SERVICE_PORT": "8000",
        "BACKSTORY_SERVICE_PORT_HTTP": "8000",
    }
    assert load({**DATA, **told}) == load(DATA)
