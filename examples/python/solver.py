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
# The calls that take a solution: registrations, and those that verify a password.
REGISTER, LOGIN = "CHALLENGE_PURPOSE_REGISTER", "CHALLENGE_PURPOSE_LOGIN"
PURPOSES = {"Register": REGISTER} | dict.fromkeys(("Login", "ChangePassword", "DeleteUser", "RevokeAllSessions"), LOGIN)
# The rate limits that a call with proof of work passes.
PASSED_LIMITS = ("address", "account", "address_and_account", "registrations")


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    any(detail.Unpack(info) for detail in (status.details if status else ()))
    return info


def reason(error: grpc.RpcError) -> str:
    """The reason of an error: a name from error_reason.proto, for programs. The message is for people."""
    return error_info(error).reason


def is_solvable(error: grpc.RpcError) -> bool:
    """Whether the call may be accepted with proof of work."""
    info = error_info(error)
    is_limited = info.reason == "RATE_LIMITED" and info.metadata.get("limit") in PASSED_LIMITS
    return is_limited or info.reason in ("CHALLENGE_REQUIRED", "CHALLENGE_INVALID")


def solving_challenges(call):
    """Decorates call(method, **fields): sends it again with proof of work where that helps."""

    @functools.wraps(call)
    def solved(method: str, **fields: str):
        for _ in range(SOLUTIONS_MAX):
            try:
                return call(method, **fields)
            except grpc.RpcError as error:
                if method not in PURPOSES or not is_solvable(error):
                    raise
            # In a session a challenge for any username.
            username = fields["username"] if method == "Login" else ""
            challenge = call("CreateChallenge", purpose=PURPOSES[method], username=username).challenge
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
