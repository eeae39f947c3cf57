"""Generate the types of gRPC stubs and servicers: a plugin that protoc starts."""

from mypy_protobuf.main import grpc

if __name__ == "__main__":
    grpc()
