"""Names and numbers that two sides of a connection must agree on."""

from typing import Final

# Domain of every google.rpc.ErrorInfo that Agentmesh sends.
ERROR_DOMAIN: Final = "agentmesh.dev"
# Trailing metadata in which gRPC carries a google.rpc.Status.
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"

# Who calls, in gRPC metadata and in NATS headers alike.
TENANT_KEY: Final = "x-agentmesh-tenant"
CALLER_KEY: Final = "x-agentmesh-caller"
# What the caller may do beyond its tenant's own work. The gateway alone says so.
ROLE_KEY: Final = "x-agentmesh-role"
# An API key's scopes, with a space between any two; absent where its role alone limits a caller.
# It ends at the gateway.
SCOPES_KEY: Final = "x-agentmesh-scopes"
# What callers from outside show the gateway: an API key or a token.
AUTHORIZATION_KEY: Final = "authorization"
# When the credential of a caller from outside ends, in seconds since the epoch; absent where it
# does not. The gateway alone says so.
EXPIRES_KEY: Final = "x-agentmesh-expires"
# How the callers begin that come by an API key: its id follows.
KEY_CALLER: Final = "key:"
# How the callers that are services begin; the gateway lets nobody else say so.
SERVICE_CALLER: Final = "service:"
# The tenant of a call whose items each have a tenant of their own.
BATCH_TENANT: Final = "agentmesh-batch"
# A proxy answers with it where no instance could be reached: nobody has seen the call.
UNREACHED_KEY: Final = "x-agentmesh-unreached"
# `1` for a call that somebody waits for; proxies put it before others.
URGENT_KEY: Final = "x-agentmesh-urgent"
# W3C trace context, in gRPC metadata and in NATS headers alike.
TRACEPARENT_KEY: Final = "traceparent"

# For channels inside the mesh, and all in plain text: where the environment names an HTTP proxy,
# gRPC would give it what is meant for this machine, keys included.
NO_HTTP_PROXY: Final = ("grpc.enable_http_proxy", 0)

# The largest message that a server takes and a client accepts.
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
# What is larger than this travels as a reference to the object store.
CLAIM_CHECK_BYTES: Final = 64 * 1024

# Clients ping an idle-looking connection this often, and proxies every ten seconds. A server
# cuts off who pings more often than its minimum, so these must stay above it.
CLIENT_KEEPALIVE_SECONDS: Final = 60
SERVER_MINIMUM_PING_SECONDS: Final = 8
# How long a ping may stay unanswered before the connection counts as dead.
KEEPALIVE_TIMEOUT_SECONDS: Final = 10
# HTTP/2 connections live long and pin their load to one replica. Servers end
# them at this age (give or take a tenth), so that new replicas get their share.
MAX_CONNECTION_AGE_SECONDS: Final = 600
# How long calls in flight may go on when a connection reached its age.
MAX_CONNECTION_AGE_GRACE_SECONDS: Final = 900
