"""Run protoc, with the imports that every contract may use on its path.

    protoc.py PROTOC-ARGUMENT...

The .proto files of protobuf itself and of Google's common types come from the
Python packages that also carry their generated code.
"""

import os
import sys
from pathlib import Path

import grpc_tools
from google.rpc import status_pb2
from grpc_tools import protoc
from mypy_protobuf import mypy_grpc_plugin

WELL_KNOWN_TYPES = Path(grpc_tools.__file__).parent / "_proto"
COMMON_TYPES = Path(status_pb2.__file__).parents[2]


def main(arguments: list[str]) -> int:
    """Run protoc, or the plugin in this same file that protoc started."""
    return protoc.main(["protoc", f"-I{WELL_KNOWN_TYPES}", f"-I{COMMON_TYPES}", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
