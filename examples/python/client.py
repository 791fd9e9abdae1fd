"""First call from Python: registers a user, logs in, and reads the error reason of a wrong password.

Run it: pip install -r requirements.txt && python client.py
"""

import os
import sys
import uuid
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

# Loads the contract from proto/ at run time, so that no generated code is needed.
sys.path.append(str(Path(__file__).resolve().parents[2] / "proto"))
pb, services = grpc.protos_and_services("watchword/auth/v1/auth.proto")
DEADLINE_S = 5


def reason(error: grpc.RpcError) -> str | None:
    """The reason of an error: a name from error_reason.proto, for programs. The message is for people."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason


with grpc.insecure_channel(os.environ.get("WATCHWORD_ADDR", "127.0.0.1:50051")) as channel:
    auth = services.AuthStub(channel)
    ada = {"username": f"ada-{uuid.uuid4().hex[:8]}", "password": "correct horse battery staple"}

    # With a request_id the registration can be repeated when its response was lost.
    auth.Register(pb.RegisterRequest(**ada, request_id=str(uuid.uuid4())), timeout=DEADLINE_S)
    user = auth.Login(pb.LoginRequest(**ada), timeout=DEADLINE_S).user
    print("logged in:", user.username, user.user_id)

    try:
        auth.Login(pb.LoginRequest(**ada | {"password": "wrong"}), timeout=DEADLINE_S)
        sys.exit("a wrong password was accepted")
    except grpc.RpcError as error:
        if reason(error) != "INVALID_CREDENTIALS":
            raise
        print("refused:", reason(error))
