"""First call from Python: registers a user, logs in, and reads why a wrong password is refused.

Run it: pip install -r requirements.txt && python client.py
"""

import os
import sys
import uuid
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

# Reads the contract as it stands in proto/, so that no generated code has to be kept.
sys.path.append(str(Path(__file__).resolve().parents[2] / "proto"))
pb, services = grpc.protos_and_services("watchword/auth/v1/auth.proto")
DEADLINE_S = 5


def reason(error: grpc.RpcError) -> str | None:
    """Why Watchword refused: a name from error_reason.proto. The text is for people, this is for programs."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason


with grpc.insecure_channel(os.environ.get("WATCHWORD_ADDR", "127.0.0.1:50051")) as channel:
    auth = services.AuthStub(channel)
    ada = {"username": f"ada-{uuid.uuid4().hex[:8]}", "password": "correct horse battery staple"}

    # With a request_id the same registration can be sent again when its answer was lost.
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
