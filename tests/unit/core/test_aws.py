from datetime import timedelta

from anb_core.adapters.aws import TRIES, client_config

PATIENCE = timedelta(seconds=20)
LONGEST_PAUSES = 1 + 2
"""Maximum total pause, in seconds, between the three tries of a call in botocore's standard retry mode."""


def test_a_call_with_all_its_tries_ends_within_the_patience_of_its_caller() -> None:
    config = vars(client_config(PATIENCE))

    assert config["retries"] == {"mode": "standard", "total_max_attempts": TRIES}
    assert TRIES * config["read_timeout"] + LONGEST_PAUSES <= PATIENCE.total_seconds()
    assert config["connect_timeout"] <= config["read_timeout"]


def test_requests_name_the_program_that_makes_them() -> None:
    assert vars(client_config(PATIENCE))["user_agent"].startswith("anb-video Botocore/")


def test_a_long_poll_is_not_given_up_while_it_waits_nor_tried_twice() -> None:
    config = vars(client_config(PATIENCE, wait=timedelta(seconds=20)))

    assert config["read_timeout"] > 20
    assert config["retries"]["total_max_attempts"] == 1
