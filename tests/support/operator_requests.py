"""Responses to the requests of operators' commands, in which each text is the given one."""

from tests.support.dead_letters import VIDEO_ID, a_dead_letter, serve_dead_letter
from tests.support.deployments import Handler
from tests.support.queue_states import a_queue_state

OPERATOR_PATHS = ("/api/dead-letters", "/api/brokers", "/api/adoptions", "/api/reconciliations")


def serve_operator(request: Handler, text: str) -> None:
    """Respond to a request for one of `OPERATOR_PATHS`."""
    if request.path == "/api/brokers":
        request.reply_json(200, {"brokers": [a_queue_state(name=text, reasons=[text])], "unsent": 0})
    elif request.path == "/api/adoptions":
        request.body()
        adopted = [{"key": text, "video_id": VIDEO_ID}]
        ignored = [{"key": text, "code": text, "message": text}]
        report = {"owner": text, "adopted": adopted, "ignored": ignored, "refused": [], "next_after": None}
        request.reply_json(200, report)
    elif request.path == "/api/reconciliations":
        request.body()
        finding = {"action": text, "video_id": text, "key": text, "message": text, "changes": True}
        request.reply_json(200, {"examined": 1, "findings": [finding], "next_after": None})
    else:
        serve_dead_letter(request, a_dead_letter(detail=text, body=text, reason=text, owner=text))
