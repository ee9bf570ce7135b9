"""Tests of the OpenAPI schema."""

from anb_api.dead_letter_schemas import MAX_ID
from tests.unit.api.conftest import World


def test_the_functions_of_generated_clients_have_names_of_their_own(world: World) -> None:
    paths = world.client.get("/openapi.json").json()["paths"]

    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert sorted(names) == [
        "adopt_objects",
        "cancel_video",
        "check_health",
        "check_readiness",
        "delete_video",
        "discard_dead_letter",
        "download_video",
        "explain_video",
        "follow_video",
        "list_brokers",
        "list_dead_letters",
        "list_videos",
        "read_metrics",
        "reconcile_bucket",
        "redrive_dead_letter",
        "redrive_dead_letters",
        "retry_video",
        "show_dead_letter",
        "show_video",
        "upload_video",
    ]


def test_the_schema_describes_events_as_text_and_the_file_as_the_last_field(world: World) -> None:
    paths = world.client.get("/openapi.json").json()["paths"]

    content = paths["/api/videos/{video_id}/events"]["get"]["responses"]["200"]["content"]
    assert content == {"text/event-stream": {"schema": {"type": "string"}}}
    form = paths["/api/videos/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert list(form["properties"]) == ["title", "edit", "process_after", "video_file"]


def test_generated_clients_keep_ids_of_dead_letters_in_64_bits(world: World) -> None:
    schema = world.client.get("/openapi.json").json()

    [in_path] = schema["paths"]["/api/dead-letters/{dead_letter_id}"]["get"]["parameters"]
    models = schema["components"]["schemas"]
    for id_ in (
        in_path["schema"],
        models["DeadLetter"]["properties"]["id"],
        models["Skipped"]["properties"]["id"],
        models["RedriveReport"]["properties"]["ids"]["items"],
    ):
        assert (id_["type"], id_["format"]) == ("integer", "int64")
        # A model's field has no maximum in the schema: FastAPI would write the maximum as a float, which rounds it up.
        assert id_.get("maximum", MAX_ID) == MAX_ID
