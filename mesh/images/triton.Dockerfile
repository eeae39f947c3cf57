# The image of Triton, for nodes with a GPU: NVIDIA's own with vLLM's backend, and in it the embedder
# that Agentmesh brings along.
#
#     ./bazelw build //mesh/images:triton
#     docker build --target triton --file mesh/images/triton.Dockerfile \
#       --tag agentmesh/triton:0.1.0 --build-arg BASE=... --build-arg BASE_DIGEST=... \
#       bazel-bin/mesh/images
#
# BASE is NVIDIA's `tritonserver`, BASE_DIGEST the digest of its tag `YY.MM-vllm-python-py3`:
# docs/operations.md says which will do. A file of its own, since the services are built without it.

ARG BASE
ARG BASE_DIGEST

FROM ${BASE}@sha256:${BASE_DIGEST} AS triton
ADD triton.tar /
# Nothing can be written but /tmp, and nobody has told the base image of this user.
ENV HOME=/tmp LOGNAME=agentmesh PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /app
EXPOSE 8000 8001 8002
# The embedder is loaded and asked once: with another Python than that of its packages this fails.
RUN ["python3", "-P", "-c", "import sys; sys.path.append('/app/repository/text_embedder/1'); from models.minilm.embedder import MiniLmEmbedder; from pathlib import Path; MiniLmEmbedder(Path(sys.path[-1], 'minilm')).embed(['one'])"]
ENTRYPOINT ["tritonserver", "--model-repository=/app/repository"]
