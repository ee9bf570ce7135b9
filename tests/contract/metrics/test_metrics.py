from tests.contract.metrics.conftest import Stand


def test_each_value_is_stored_under_the_name_of_its_metric_and_of_the_release(stand: Stand) -> None:
    stand.metrics.publish({"Workers": 2, "OldestWaitingSeconds": 12.5, "OpenDeadLetters": 0})
    assert stand.stored() == {"Workers": 2, "OldestWaitingSeconds": 12.5, "OpenDeadLetters": 0}
    stand.metrics.publish({"Workers": 3})
    assert stand.stored() == {"Workers": 5, "OldestWaitingSeconds": 12.5, "OpenDeadLetters": 0}
    stand.metrics.close()
