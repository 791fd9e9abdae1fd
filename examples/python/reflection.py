"""Calls Watchword without proto files: the server describes its messages by gRPC reflection.

Run it: pip install -r requirements.txt && python reflection.py
"""

import os
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from solver import solving_challenges

DEADLINE_S = 5


with grpc.insecure_channel(os.environ.get("WATCHWORD_ADDR", "127.0.0.1:50051")) as channel:
    described = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    service = described.FindServiceByName("watchword.auth.v1.Auth")

    @solving_challenges
    def call(method_name: str, **fields: str):
        """Makes one unary call with the message types from reflection."""
        method = service.methods_by_name[method_name]
        request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
        send = channel.unary_unary(
            f"/{service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return send(request(**fields), timeout=DEADLINE_S)

    ada = {"username": f"ada-{uuid.uuid4().hex[:8]}", "password": "correct horse battery staple"}
    call("Register", **ada, request_id=str(uuid.uuid4()))
    user = call("Login", **ada).user
    print("logged in:", user.username, user.user_id)
