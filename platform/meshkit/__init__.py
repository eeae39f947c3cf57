"""The runtime that every service of Agentmesh shares. It holds no business rule."""
