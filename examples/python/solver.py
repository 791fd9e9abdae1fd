"""What a Python client of Watchword needs: proof of work where Watchword asks for it, and the reason of an error."""

import base64
import functools
import hashlib
import json

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

# The most rounds of PBKDF2 for one solution: about a minute. Watchword asks for 8 million by default.
ROUNDS_MAX = 300_000_000
# The first solution may have expired before it arrived.
SOLUTIONS_MAX = 2


def reason(error: grpc.RpcError) -> str | None:
    """The reason of an error: a name from error_reason.proto, for programs. The message is for people."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason


def solving_challenges(call):
    """Decorates call(method, **fields): sends Login and Register again with proof of work if Watchword requires it."""

    @functools.wraps(call)
    def solved(method: str, **fields: str):
        for _ in range(SOLUTIONS_MAX):
            try:
                return call(method, **fields)
            except grpc.RpcError as error:
                if reason(error) not in ("CHALLENGE_REQUIRED", "CHALLENGE_INVALID"):
                    raise
            username = fields["username"] if method == "Login" else ""
            purpose = f"CHALLENGE_PURPOSE_{method.upper()}"
            challenge = call("CreateChallenge", purpose=purpose, username=username).challenge
            fields["challenge_solution"] = solve(challenge)
        return call(method, **fields)

    return solved


def solve(challenge: str) -> str:
    """Solves a challenge (ALTCHA, version 2): finds the counter whose key begins with the prefix."""
    parsed = json.loads(challenge)
    asked = parsed["parameters"]
    rounds, prefix, salt = asked["cost"], asked["keyPrefix"], bytes.fromhex(asked["salt"])
    keys_max = ROUNDS_MAX // rounds
    if asked["algorithm"] != "PBKDF2/SHA-256" or 16 ** len(prefix) > keys_max:
        raise ValueError(f"the challenge asks for too much work, or for another algorithm: {asked}")
    for counter in range(keys_max):
        password = bytes.fromhex(asked["nonce"]) + counter.to_bytes(4, "big")
        key = hashlib.pbkdf2_hmac("sha256", password, salt, rounds, asked["keyLength"]).hex()
        if key.startswith(prefix):
            solution = {"challenge": parsed, "solution": {"counter": counter, "derivedKey": key}}
            return base64.b64encode(json.dumps(solution).encode()).decode()
    raise ValueError(f"the challenge was not solved with {ROUNDS_MAX} rounds")
