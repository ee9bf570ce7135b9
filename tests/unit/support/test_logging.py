import threading

import pytest
import structlog


def test_what_another_thread_logs_is_not_in_the_output_of_the_test_that_runs(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    thread = threading.Thread(target=lambda: structlog.get_logger().info("swept", deleted=1))
    thread.start()
    thread.join()
    assert capsys.readouterr() == ("", "")
    assert "swept" in caplog.text
