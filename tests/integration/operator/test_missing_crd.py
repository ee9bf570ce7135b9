"""Tests of a complete operator in a cluster without the CRD of VideoJobs."""

from tests.integration.operator.conftest import Run, RunningOperator
from tests.support.fake_api_server import ApiServer
from tests.support.given import uploaded


def test_a_cluster_without_videojobs_is_waited_for(run: Run) -> None:
    api = ApiServer()
    api.known = api.discovered = False

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: operator.names("This cluster knows no VideoJobs: install the chart with"))
        await operator.until(lambda: api.requests["GET"] > 10)
        assert await operator.alive()
        # Make VideoJobs readable before API discovery lists them, as after the installation of a CRD.
        api.known = True
        await operator.until(lambda: api.requests["GET"] > 30)
        assert api.requests["WATCH"] == 0
        api.discovered = True
        await operator.until(operator.ready)
        await operator.mirrors()

    logs = run(api, scenario)
    assert [line["reason"][:30] for line in logs if line["event"] == "waiting for VideoJobs"] == [
        "This cluster knows no VideoJob"
    ]


def test_metrics_for_alarms_are_sent_also_while_the_cluster_knows_no_videojobs(run: Run) -> None:
    api = ApiServer()
    api.known = api.discovered = False

    async def scenario(operator: RunningOperator) -> None:
        await operator.until(lambda: operator.metrics.published)

        assert operator.metrics.published[0] == {
            "OpenDeadLetters": 0,
            "OldestWaitingSeconds": 0,
            "Workers": 2,
            "WorkersMax": 3,
        }

    run(api, scenario)


def test_after_the_crd_was_deleted_the_operator_waits_for_it_and_makes_the_mirrors_again(run: Run) -> None:
    api = ApiServer()

    async def scenario(operator: RunningOperator) -> None:
        await operator.mirrors()
        video_id = uploaded(operator.store)
        await operator.until(lambda: "status" in api.videojobs.get(video_id, {}))
        api.known = False
        api.videojobs.clear()
        api.end_watches()
        await operator.until(lambda: operator.names("This cluster knows no VideoJobs"))
        assert await operator.alive()
        api.known = True
        await operator.until(operator.ready)
        await operator.until(lambda: "status" in api.videojobs.get(video_id, {}))
        await operator.mirrors()

    logs = run(api, scenario)
    assert not any("exc_info" in line for line in logs)
