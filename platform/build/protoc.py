"""Run protoc, with the types that every contract may import on its path.

    protoc.py PROTOC-ARGUMENT...

protobuf's own types and Google's common ones lie in the Python packages that
also carry their generated code, so that the two cannot differ.
"""

import sys
from pathlib import Path

import grpc_tools
from google.rpc import status_pb2
from grpc_tools import protoc

WELL_KNOWN_TYPES = Path(grpc_tools.__file__).parent / "_proto"
COMMON_TYPES = Path(status_pb2.__file__).parents[2]


def main(arguments: list[str]) -> int:
    """Run protoc and return its exit status."""
    paths = [f"-I{WELL_KNOWN_TYPES}", f"-I{COMMON_TYPES}"]
    # grpc_tools ships no types.
    return protoc.main(["protoc", *paths, *arguments])  # pyright: ignore


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
