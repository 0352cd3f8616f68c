"""The gRPC API: the only importer of grpc. Messages to values, values to messages."""
