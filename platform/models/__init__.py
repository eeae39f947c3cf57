"""The models that Agentmesh brings along, and the Triton server that runs them."""
