"""Tests of the CloudWatch adapter with responses that moto does not send."""

from datetime import timedelta

import pytest
from botocore.stub import Stubber

from anb_core.adapters.cloudwatch import CloudWatchMetrics
from anb_core.domain.errors import Unavailable
from tests.support.aws import recorded_clients


def test_refused_metrics_are_reported_with_the_address_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = recorded_clients(monkeypatch)
    metrics = CloudWatchMetrics("ANBVideo", release="video/anb", region="eu-west-1", patience=timedelta(seconds=8))
    [client] = clients
    assert client.meta.region_name == "eu-west-1"
    assert vars(client.meta.config)["read_timeout"] == 2
    with Stubber(client) as stub:
        stub.add_client_error("put_metric_data", "AccessDenied", "not allowed", http_status_code=403)
        reason = r"^CloudWatch at http\S+ refuses PutMetricData: AccessDenied, not allowed\.$"
        with pytest.raises(Unavailable, match=reason) as refused:
            metrics.publish({"Workers": 1})
    assert refused.value.part == "metrics"
