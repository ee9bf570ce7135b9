from pathlib import Path

import pytest

from anb_core.domain.status import Status
from tests.chaos.mixed import running_mixed
from tests.chaos.site import Servers

pytestmark = pytest.mark.chaos

JOBS = 100


@pytest.mark.timeout(600)
def test_a_hundred_videos_survive_faults_of_all_kinds(
    tmp_path: Path, servers: Servers, cards_dir: Path, clip: bytes
) -> None:
    with running_mixed(tmp_path, servers, cards_dir, clip, workers=3, seed=1) as mixed:
        report = mixed.run(JOBS, pause=1.0)
    print(report.table())  # noqa: T201 - pytest shows it when the test failed
    assert report.broken == []
    assert report.jobs == JOBS
    assert report.statuses.keys() <= {Status.PROCESSED, Status.CANCELLED}
    assert report.faults.total() > JOBS / 10
    assert report.outcomes["dropped"], "no duplicate ever came"
