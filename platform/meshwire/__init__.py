"""gRPC on the event loop: calls and servers without threads, over HTTP/2."""
