"""The API's command line: `python -m anb_api [serve | migrate | token create|list|revoke]`."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TypeVar

from anb_api.server import make_server, serve
from anb_api.settings import ApiSettings, CommandSettings, MigrationSettings
from anb_core.adapters.system import new_id
from anb_core.bootstrap import (
    migrate,
    open_alerts,
    open_bucket,
    open_dead_letter_queue,
    open_old_queue,
    open_queue,
    open_store,
    open_store_for_command,
)
from anb_core.domain.errors import AnbError
from anb_core.domain.model import Scope, Token
from anb_core.settings.capabilities import LogSettings
from anb_core.settings.loading import load_or_exit
from anb_core.telemetry import configure_logging
from anb_core.usecases.tokens import add_bootstrap_token, create_token, revoke_token

MAX_DAYS = 36_500
"""Maximum lifetime of a token in days."""

S = TypeVar("S", bound=LogSettings)
Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, and return the exit code."""
    chosen = _parser().parse_args(arguments)
    command: Command = chosen.command
    try:
        command(chosen)
    except AnbError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return 1
    return 0


def _serve(_: argparse.Namespace) -> None:
    settings = _settings(ApiSettings)
    # Do not log the parser's warnings about malformed forms, because the response informs the client.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    patience = settings.heartbeat
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(settings)))
        objects = stack.enter_context(
            closing(open_bucket(settings, patience=patience, public_endpoint=settings.s3_public_endpoint))
        )
        queue = stack.enter_context(closing(open_queue(settings)))
        old_queue = open_old_queue(settings)
        dead_letter_queue = alerts = None
        if settings.handle_dead_letters:
            dead_letter_queue = open_dead_letter_queue(settings, patience=patience)
            alerts = open_alerts(settings, patience=patience)
        for client in (old_queue, dead_letter_queue, alerts):
            if client is not None:
                stack.enter_context(closing(client))
        server = make_server(
            settings,
            store,
            objects,
            queue,
            old_queue=old_queue,
            dead_letter_queue=dead_letter_queue,
            alerts=alerts,
        )
        serve(server)


def _migrate(_: argparse.Namespace) -> None:
    settings = _settings(MigrationSettings)
    migrate(settings)
    if settings.bootstrap_token is None:
        return
    store = open_store_for_command(settings)
    try:
        add_bootstrap_token(store, settings.bootstrap_token.get_secret_value(), new_id=new_id)
    finally:
        store.close()


def _create(chosen: argparse.Namespace) -> None:
    store = open_store_for_command(_settings(CommandSettings))
    lifetime = timedelta(days=chosen.days) if chosen.days is not None else None
    try:
        new = create_token(store, owner=chosen.owner, scope=chosen.scope, new_id=new_id, lifetime=lifetime)
    finally:
        store.close()
    if chosen.json:
        _print(json.dumps({**_public_fields(new.token), "secret": new.secret}))
    else:
        _print(new.secret)
        sys.stderr.write("This secret is shown only once and is not stored.\n")


def _list(chosen: argparse.Namespace) -> None:
    store = open_store_for_command(_settings(CommandSettings))
    try:
        tokens = store.list_tokens()
    finally:
        store.close()
    for token in tokens:
        fields = _public_fields(token)
        if chosen.json:
            _print(json.dumps(fields))
        else:
            _print("  ".join(f"{name}={value}" for name, value in fields.items() if value is not None))


def _revoke(chosen: argparse.Namespace) -> None:
    store = open_store_for_command(_settings(CommandSettings))
    try:
        revoke_token(store, chosen.token_id)
    finally:
        store.close()


def _settings(kind: type[S]) -> S:
    settings = load_or_exit(kind)
    configure_logging(settings.log_format, settings.log_level)
    return settings


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _public_fields(token: Token) -> dict[str, str | None]:
    return {
        "id": token.id,
        "owner": token.owner,
        "scope": token.scope,
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        "revoked_at": token.revoked_at.isoformat() if token.revoked_at else None,
    }


def _days(given: str) -> float:
    days = float(given)
    if not 0 < days <= MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{given} is not between 0 and {MAX_DAYS}")
    return days


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m anb_api", description="The HTTP API of ANB Video.")
    parser.set_defaults(command=_serve)
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("serve", help="serve the API (the default)").set_defaults(command=_serve)
    commands.add_parser("migrate", help="migrate the database schema to this version").set_defaults(command=_migrate)
    token = commands.add_parser("token", help="create, list and revoke API tokens")
    actions = token.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser("create", help="create a token and print its secret once")
    create.add_argument("--owner", required=True, help="owner of the videos that the token gives access to")
    create.add_argument(
        "--scope", type=Scope, choices=list(Scope), default=Scope.USER, help="ops gives access to all owners' videos"
    )
    create.add_argument("--days", type=_days, help="lifetime in days; without it the token does not expire")
    create.set_defaults(command=_create)
    listing = actions.add_parser("list", help="list all tokens, without their secrets")
    listing.set_defaults(command=_list)
    for action in (create, listing):
        action.add_argument("--json", action="store_true", help="print JSON, one object per line")
    revoke = actions.add_parser("revoke", help="revoke a token")
    revoke.add_argument("token_id", metavar="ID", help="the token's id, as `token list` shows it")
    revoke.set_defaults(command=_revoke)
    return parser


if __name__ == "__main__":
    sys.exit(main())
