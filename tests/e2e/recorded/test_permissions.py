"""Compares the roles of deploy/aws/roles.yaml with the calls that LocalStack recorded during the other tests.

tests/integration/aws/test_permissions.py shows that no component but KEDA has a permission that it does not need: some
calls, such as those that delete objects after a day, are not made here.
"""

from collections.abc import Callable

import pytest

from tests.support.permissions import missing, unused
from tests.support.recorded_calls import needed_permissions


@pytest.mark.parametrize("role", ["ApiRole", "WorkerRole", "OperatorRole", "KedaRole"])
def test_no_component_needs_a_permission_that_its_role_lacks(role: str, measured: Callable[[str], None]) -> None:
    needed = needed_permissions(role)
    measured("not needed here: " + (", ".join(sorted({action for action, _ in unused(role, needed)})) or "nothing"))

    assert needed, "no call is recorded: run these tests after the others, as `make e2e` does"
    assert missing(role, needed) == set()


def test_keda_needs_its_whole_role() -> None:
    assert unused("KedaRole", needed_permissions("KedaRole")) == set()
