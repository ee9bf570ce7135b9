from datetime import timedelta

import pytest

from anb_core.adapters.sns import SnsAlerts
from anb_core.domain.errors import Unavailable
from tests.contract.alerts.conftest import REGION, Stand

MISSING = f"arn:aws:sns:{REGION}:123456789012:nobody-made-it"


def test_an_alert_arrives_with_its_subject_and_text(stand: Stand) -> None:
    stand.alerts.publish("2 new dead letters (failures)", "1. Ferien, ä & <b>\n2. 動画\n")
    assert stand.received() == [("2 new dead letters (failures)", "1. Ferien, ä & <b>\n2. 動画\n")]
    stand.alerts.close()


def test_a_subject_that_sns_would_refuse_arrives_in_a_form_that_it_takes(stand: Stand) -> None:
    stand.alerts.publish("\n Größe:\t\x07" + "x" * 200, "text")
    assert stand.received() == [("Gr??e: ?" + "x" * 91, "text")]
    stand.alerts.close()


@pytest.mark.parametrize("server", ["moto_url", "ministack_url"])
def test_a_missing_topic_is_told_with_the_setting_that_names_it(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue(server))
    alerts = SnsAlerts(MISSING, patience=timedelta(seconds=20))
    with pytest.raises(
        Unavailable, match=rf"The topic {MISSING} in ANB_SNS_TOPIC_ARN, at http.*, refuses Publish: "
    ) as away:
        alerts.publish("subject", "text")
    assert away.value.part == "alerts"
    alerts.close()
