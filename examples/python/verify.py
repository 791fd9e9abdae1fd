"""Tokens in Python: logs in, calls with the access token, and verifies it offline, as any other service can.

Run it: pip install -r requirements.txt && python verify.py
"""

import os
import sys
import uuid
from pathlib import Path

import grpc
import jwt
from solver import solving_challenges

sys.path.append(str(Path(__file__).resolve().parents[2] / "proto"))
pb, services = grpc.protos_and_services("watchword/auth/v1/auth.proto")
ISSUER = os.environ.get("WATCHWORD_ISSUER", "http://127.0.0.1:5000")
DEADLINE_S = 5

# One for each process: fetches the public keys when needed and caches them.
keys = jwt.PyJWKClient(f"{ISSUER}/.well-known/jwks.json")


def verify(token: str) -> dict:
    """Returns the claims of a valid token. Requires one algorithm, the expected issuer and audience, and all claims."""
    return jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=["ES256"],
        issuer=ISSUER,
        audience="watchword",
        options={"require": ["exp", "iat", "iss", "aud", "sub", "jti"]},
    )


with grpc.insecure_channel(os.environ.get("WATCHWORD_ADDR", "127.0.0.1:50051")) as channel:
    auth = services.AuthStub(channel)

    @solving_challenges
    def call(method: str, **fields: str):
        """Makes one call with a deadline."""
        return getattr(auth, method)(getattr(pb, f"{method}Request")(**fields), timeout=DEADLINE_S)

    ada = {"username": f"ada-{uuid.uuid4().hex[:8]}", "password": "correct horse battery staple"}
    call("Register", **ada)
    tokens = call("Login", **ada).tokens

    bearer = [("authorization", f"Bearer {tokens.access_token}")]
    user = auth.GetUser(pb.GetUserRequest(), metadata=bearer, timeout=DEADLINE_S).user
    print("called as:", user.username, user.user_id)
    print("verified:", verify(tokens.access_token)["sub"])
