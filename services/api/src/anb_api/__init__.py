"""The HTTP API: routes, schemas, authentication, problem details, server-sent events."""
