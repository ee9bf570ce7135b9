"""The HTTP API: routes, schemas, authentication, problem details and server-sent events."""
