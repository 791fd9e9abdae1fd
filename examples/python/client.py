"""First call from Python: registers a user, logs in, and reads the error reason of a wrong password.

Run it: pip install -r requirements.txt && python client.py
"""

import os
import sys
import uuid
from pathlib import Path

import grpc
from solver import reason, solving_challenges

# Loads the contract from proto/ at run time, so that no generated code is needed.
sys.path.append(str(Path(__file__).resolve().parents[2] / "proto"))
pb, services = grpc.protos_and_services("watchword/auth/v1/auth.proto")
DEADLINE_S = 5


with grpc.insecure_channel(os.environ.get("WATCHWORD_ADDR", "127.0.0.1:50051")) as channel:
    auth = services.AuthStub(channel)

    @solving_challenges
    def call(method: str, **fields: str):
        """Makes one call with a deadline."""
        return getattr(auth, method)(getattr(pb, f"{method}Request")(**fields), timeout=DEADLINE_S)

    ada = {"username": f"ada-{uuid.uuid4().hex[:8]}", "password": "correct horse battery staple"}

    # With a request_id the registration can be repeated when its response was lost.
    call("Register", **ada, request_id=str(uuid.uuid4()))
    user = call("Login", **ada).user
    print("logged in:", user.username, user.user_id)

    try:
        call("Login", **ada | {"password": "wrong"})
        sys.exit("a wrong password was accepted")
    except grpc.RpcError as error:
        if reason(error) != "INVALID_CREDENTIALS":
            raise
        print("refused:", reason(error))
