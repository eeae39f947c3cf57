"""Who is given which secret of the environment."""

from tier.secret_variables import secrets, secrets_of

_ENVIRON = (
    "ANTHROPIC_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "HOME",
    "MONKEY_HOUSE",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "PATH",
    "PGPASSWORD",
    "VLLM_KEY",
    "WEBHOOK_SECRET",
    "db_password",
)


def test_secrets_are_known_by_their_names() -> None:
    """Keys, tokens and passwords of whatever, and all of a provider: its address may hold one."""
    assert secrets(_ENVIRON) == {*_ENVIRON} - {"HOME", "MONKEY_HOUSE", "PATH"}


def test_a_part_is_given_what_its_settings_name() -> None:
    """By a value, however deep, and no other part is."""
    section = {"models": {"mine": {"provider": "openai", "key_variable": "VLLM_KEY"}}}
    assert secrets_of("reasoning", section, _ENVIRON) == {
        "ANTHROPIC_API_KEY",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "VLLM_KEY",
    }
    webhooks = {"alert_webhooks": {"a": {"secret_variables": ["WEBHOOK_SECRET"]}}}
    assert secrets_of("governor", webhooks, _ENVIRON) == {"PGPASSWORD", "WEBHOOK_SECRET"}
    assert secrets_of("tool", {}, _ENVIRON) == set()
