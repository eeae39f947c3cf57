"""The `agentmesh` command."""
