"""Checks the deployment files without a container engine or a cluster: `python tests/deploy/check.py [binary]`.

Needs the packages of requirements.txt in this folder, and no network. Uses systemd-analyze, redis-server and
redis-cli; a check whose program is missing prints "not checked", which is a failure in CI. With the path of a watchword
binary, also checks that it accepts the settings in the files. Prints one line for each check; the exit code is 1 when
any check failed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dockerfile
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
# The supported releases: the oldest that has all fields of the manifests, and the newest that has a schema.
KUBERNETES = ("1.27", "1.37")
LABELS = {"app.kubernetes.io/name": "watchword"}
# The exposure level of `systemd-analyze security`, in tenths: 15 for this unit, 96 for a unit without hardening.
SYSTEMD_EXPOSURE_MAX = 20
REDIS_START_SECONDS_MAX = 10
COMMAND_SECONDS_MAX = 60


class NotChecked(Exception):
    """A program that the check needs is missing."""


def run(*command, **options):
    """Runs a program to completion; returns its output as text and its exit code."""
    settings = {"capture_output": True, "text": True, "cwd": ROOT, "timeout": COMMAND_SECONDS_MAX}
    return subprocess.run([str(part) for part in command], **(settings | options))


def need(program):
    """The path of an installed program."""
    path = shutil.which(program)
    if not path:
        raise NotChecked(f"{program} is missing")
    return path


def seconds(text):
    """`5s`, `10s`, `1m30s` as a number."""
    return sum(int(count) * {"s": 1, "m": 60}[unit] for count, unit in re.findall(r"(\d+)([ms])", text))


# === The files, parsed


def resolved_compose():
    """The Compose file as Docker Compose loads it: validated against its schema, with all short forms expanded."""
    result = run(PROGRAMS / "docker-compose", "config", "--format", "json")
    if result.returncode:
        raise ValueError(result.stderr.strip())
    return json.loads(result.stdout)


def manifests():
    """Every Kubernetes object except the kustomization: the name of its file and its content."""
    for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")):
        if path.name != "kustomization.yaml":
            for manifest in yaml.safe_load_all(path.read_text()):
                yield path.name, manifest


def deployment():
    return next(manifest for _, manifest in manifests() if manifest["kind"] == "Deployment")


def kubernetes_settings():
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def image_settings():
    pairs = [c.value for c in dockerfile.parse_file(str(ROOT / "Dockerfile")) if c.cmd == "ENV"]
    return {name: value for values in pairs for name, value in zip(values[::2], values[1::2])}


def unit(comments=False):
    """The text of the unit; with `comments`, with its commented-out settings enabled."""
    text = (ROOT / "deploy/systemd/watchword.service").read_text()
    return re.sub(r"(?m)^#(?=(LoadCredential|Environment)=)", "", text) if comments else text


def unit_settings(folder):
    pairs = re.findall(r"(?m)^Environment=(WATCHWORD_\w+)=(.*)$", unit())
    return {name: value.replace("%S", str(folder)) for name, value in pairs}


# === The checks: each yields one text for each fault


def dockerfile_lint():
    """hadolint reports nothing about the Dockerfile"""
    result = run(PROGRAMS / "hadolint", "--no-color", "Dockerfile")
    yield from (result.stdout + result.stderr).splitlines() or (["hadolint failed"] if result.returncode else [])


def dockerfile_rules():
    """The image builds with Cargo.toml's Rust, has a numeric user, needs no shell and does not allow plain text"""
    commands = dockerfile.parse_file(str(ROOT / "Dockerfile"))
    rust = re.search(r'(?m)^rust-version = "(.*)"', (ROOT / "Cargo.toml").read_text())[1]
    stages = [index for index, command in enumerate(commands) if command.cmd == "FROM"]
    if not commands[stages[0]].value[0].startswith(f"rust:{rust}-"):
        yield f"{commands[stages[0]].value[0]} is not Cargo.toml's rust-version {rust}"
    final = {command.cmd: command for command in commands[stages[-1]:]}
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", final["USER"].value[0]):
        yield f"USER {final['USER'].value[0]} is not a number, or is root"
    for name in ("HEALTHCHECK", "ENTRYPOINT", "VOLUME"):
        if not final[name].json:
            yield f"{name} needs a shell"
    if final["STOPSIGNAL"].value != ("SIGTERM",):
        yield "STOPSIGNAL is not SIGTERM"
    if "WATCHWORD_INSECURE_PLAINTEXT" in image_settings():
        yield "the image sets WATCHWORD_INSECURE_PLAINTEXT; only the operator may"
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for command in (c for c in commands if c.cmd == "COPY" and not any("--from" in flag for flag in c.flags)):
        for source in command.value[:-1]:
            if not (ROOT / source).exists() or f"!{source}" not in allowed:
                yield f"COPY {source}: not in the repository, or excluded by .dockerignore"
    if "*" not in allowed or any(line.startswith("!") and not (ROOT / line[1:]).exists() for line in allowed):
        yield ".dockerignore allows everything, or lists a missing file"


def compose_schema():
    """Docker Compose accepts docker-compose.yml"""
    resolved_compose()
    return ()


def compose_rules():
    """Compose publishes on 127.0.0.1 only and never Redis, and its containers have no privileges"""
    for name, service in resolved_compose()["services"].items():
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                yield f"{name} publishes {port['target']} on {port.get('host_ip', 'every address')}"
        if name == "redis" and service.get("ports"):
            yield "redis is published"
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"] or not service.get("mem_limit"):
            yield f"{name} lacks read_only, cap_drop ALL or mem_limit"
        if service.get("security_opt") != ["no-new-privileges:true"] or service.get("privileged"):
            yield f"{name} can gain privileges"


def compose_redis():
    """The Redis of Compose is durable, and its user has only the permissions that Watchword needs"""
    server, client = need("redis-server"), need("redis-cli")
    service = resolved_compose()["services"]["redis"]
    # `docker-compose config` escapes every `$` as `$$`.
    script = service["command"][-1].replace("$$", "$")
    probe = service["healthcheck"]["test"][1].replace("$$", "$")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "password").write_text("0123456789abcdef\n")
        for path, here in (("/run/secrets/redis_password", "password"), ("/tmp/users.acl", "acl")):
            script, probe = script.replace(path, f"{folder}/{here}"), probe.replace(path, f"{folder}/{here}")
        script = script.replace("exec redis-server", f"exec {server} --port 0 --unixsocket {folder}/socket")
        script = script.replace("--dir /data", f"--dir {folder}")
        probe = probe.replace("redis-cli", f"{client} -s {folder}/socket")
        command = [*service["command"][:-1], script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as redis:
            try:
                yield from redis_faults(redis, probe, [client, "-s", f"{folder}/socket"])
            finally:
                redis.kill()


def redis_faults(redis, probe, cli):
    """The faults of the Redis that `compose_redis` started."""
    deadline = time.monotonic() + REDIS_START_SECONDS_MAX
    while run("sh", "-c", probe).returncode:
        if redis.poll() is not None or time.monotonic() > deadline:
            redis.kill()
            yield f"redis does not become healthy: {redis.stdout.read().decode().strip()[-300:]}"
            return
        time.sleep(0.1)

    def ask(*command, password="0123456789abcdef"):
        environment = os.environ | {"REDISCLI_AUTH": password}
        return run(*cli, "--user", "watchword", *command, env=environment).stdout.strip()

    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    for setting, value in wanted.items():
        if (answer := ask("CONFIG", "GET", setting).split()) != [setting, value]:
            yield f"{setting} is not {value}: {answer}"
    script = "return redis.call('SET', KEYS[1], ARGV[1])"
    for command, answer in (
        (("SET", "watchword:user:ada", "x", "NX", "GET"), ""),
        (("GET", "watchword:user:ada"), "x"),
        (("EVAL", script, "1", "watchword:user:ada", "y"), "OK"),
        (("GET", "watchword:user:ada"), "y"),
    ):
        if ask(*command) != answer:
            yield f"{command[0]} is refused: {ask(*command)}"
    for command in (("TIME",), ("ROLE",), ("INFO",), ("PTTL", "watchword:store"), ("CLIENT", "TRACKING", "OFF"),
                    ("CLIENT", "CACHING", "YES")):
        if "NOPERM" in ask(*command):
            yield f"{command[0]} is refused"
    for command in ("GET other", "FLUSHALL", "KEYS *", "CONFIG SET appendonly no", "ACL LIST"):
        if "NOPERM" not in ask(*command.split()):
            yield f"{command} is allowed"
    if "NOAUTH" not in ask("PING", password="wrong"):
        yield "a wrong password is accepted"
    if "NOAUTH" not in run(*cli, "PING").stdout:
        yield "Redis accepts commands without a password"


def kubernetes_schema():
    """Every manifest is valid by the Kubernetes schemas, in strict mode"""
    for file, manifest in manifests():
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{file} ({version}): {error.message} at {'.'.join(map(str, error.path))}"


def kubernetes_rules():
    """The manifests agree in namespace, labels, ports and files, and the pod meets the restricted profile"""
    spec = deployment()["spec"]["template"]["spec"]
    container = spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for file, manifest in manifests():
        if manifest["kind"] != "Namespace" and manifest["metadata"]["namespace"] != "watchword":
            yield f"{file}: not in the namespace watchword"
        body = manifest.get("spec", {})
        selector = body.get("podSelector") or body.get("selector")
        if selector and selector.get("matchLabels", selector) != LABELS:
            yield f"{file}: does not select the pods of Watchword"
        if manifest["kind"] == "Service" and any(port["targetPort"] not in ports for port in body["ports"]):
            yield f"{file}: targets a port that the pod does not have"
        if manifest["kind"] == "NetworkPolicy":
            opened = {port["port"] for rule in body["ingress"] for port in rule["ports"]}
            if not opened <= set(ports.values()) or any(not rule.get("from") for rule in body["ingress"]):
                yield f"{file}: opens a port that the pod does not have, or opens a port to all clients"
            if any(not rule.get("to") for rule in body["egress"]):
                yield f"{file}: allows egress to every destination"
    if deployment()["spec"]["template"]["metadata"]["labels"] != LABELS:
        yield "deployment.yaml: the labels of the pods differ"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if container[probe]["httpGet"]["port"] != "ops":
            yield f"deployment.yaml: {probe} is not on the ops listener"
    context = container["securityContext"]
    restricted = (
        spec["securityContext"].get("runAsNonRoot") is True
        and spec["securityContext"].get("seccompProfile") == {"type": "RuntimeDefault"}
        and context.get("allowPrivilegeEscalation") is False
        and context.get("capabilities") == {"drop": ["ALL"]}
        and context.get("readOnlyRootFilesystem") is True
        and spec.get("automountServiceAccountToken") is False
    )
    if not restricted:
        yield "deployment.yaml: the pod does not meet the restricted profile"
    if "cpu" in container["resources"]["limits"] or "memory" not in container["resources"]["limits"]:
        yield "deployment.yaml: needs a memory limit and no CPU limit"
    listed = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())["resources"]
    there = {file for file, manifest in manifests() if manifest["kind"] != "Secret"}
    for file in sorted(set(listed) ^ there):
        yield f"kustomization.yaml: {file} is not listed, does not exist, or is a Secret"


def systemd_verify():
    """systemd accepts every line of the unit, also with those for Redis, and rates it as well hardened"""
    analyze = need("systemd-analyze")
    for comments in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "watchword.service")
            # `verify` needs an installed binary; Watchword is not installed here.
            path.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit(comments)))
            result = run(analyze, "verify", "--man=no", path)
            # `verify` also reports other units of the machine.
            faults = [line for line in result.stderr.splitlines() if "watchword" in line]
            yield from faults
            rating = run(analyze, "security", "--offline=true", f"--threshold={SYSTEMD_EXPOSURE_MAX}", path)
            if rating.returncode and not faults:
                yield (rating.stdout + rating.stderr).strip().splitlines()[-1]


def gateway_code():
    """What src/ defines for gateways: identity headers, request headers that it reads, route settings, store budget."""
    code = (ROOT / "src/api/ext_authz.rs").read_text()
    gateway = (ROOT / "src/domain/gateway/ext_authz.rs").read_text()
    budget = re.search(r"STORE_BUDGET: .*from_millis\((\d+)\)", gateway)
    return {
        "identity": re.findall(r'(?m)^const \w+: &str = "(x-auth-[\w-]+)"', code),
        "read": {"authorization", *re.findall(r'has\("([\w-]+)"\)', code)},
        "words": {("auth", "required"), *re.findall(r'has_setting\("(\w+)", "(\w+)"\)', code)},
        "budget_seconds": int(budget[1]) / 1000,
    }


def gateway_file(name):
    return list(yaml.safe_load_all((ROOT / "deploy/envoy" / name).read_text()))


def typed(node, name):
    """Every mapping below `node` whose Envoy type has that name."""
    if isinstance(node, dict):
        if node.get("@type", "").endswith(f".{name}"):
            yield node
        node = list(node.values())
    for inner in node if isinstance(node, list) else ():
        yield from typed(inner, name)


def envoy_rules():
    """Envoy calls the gRPC address, fails closed, waits long enough, and uses the headers and settings of src/"""
    (config,), code = gateway_file("envoy.yaml"), gateway_code()
    clusters = {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}
    (manager,), (authz,) = typed(config, "HttpConnectionManager"), typed(config, "ExtAuthz")
    if authz["failure_mode_allow"] or not authz["encode_raw_headers"] or authz["transport_api_version"] != "V3":
        yield "ext_authz: fails open, joins headers, or uses another version of the API"
    if float(authz["grpc_service"]["timeout"].rstrip("s")) < 1.5 * code["budget_seconds"]:
        yield "ext_authz: the timeout is shorter than the response time of Watchword"
    if {one["exact"] for one in authz["allowed_headers"]["patterns"] if "exact" in one} != code["read"]:
        yield f"ext_authz: does not send exactly the headers {sorted(code['read'])}"
    (mutation,) = typed(manager["early_header_mutation_extensions"], "HeaderMutation")
    if [one["remove"] for one in mutation["mutations"]] != code["identity"]:
        yield f"early_header_mutation: does not remove {code['identity']}"
    yield from path_faults(manager)
    routes = [one["check_settings"]["context_extensions"] for one in typed(config, "ExtAuthzPerRoute")]
    for route in routes:
        for word in set(route.items()) - code["words"]:
            yield f"a route sets {word}, which Watchword does not know"
    watchword = clusters[authz["grpc_service"]["envoy_grpc"]["cluster_name"]]
    (protocol,) = typed(watchword, "HttpProtocolOptions")
    streams = re.search(r"STREAMS_MAX: u32 = (\d+)", (ROOT / "src/net/connection.rs").read_text())
    if protocol["explicit_http_config"]["http2_protocol_options"]["max_concurrent_streams"] > int(streams[1]):
        yield "watchword: sends more streams on a new connection than Watchword accepts"
    (probe,) = watchword["health_checks"]
    if probe["no_traffic_interval"] != probe["interval"]:
        yield "watchword: a node that fails before the first request is found late"
    caller = authz["grpc_service"]["envoy_grpc"]
    if not caller["skip_envoy_headers"] or "unavailable" not in caller["retry_policy"]["retry_on"]:
        yield "ext_authz: sends its own x-forwarded-for, or does not retry"
    if endpoint(watchword) != default("WATCHWORD_GRPC_ADDR"):
        yield f"watchword: {endpoint(watchword)} is not the default address of the gRPC listener"
    limit = re.search(r"CHECK_BYTES_MAX: usize = (\d+) \* 1024", (ROOT / "src/api/methods/ext_authz.rs").read_text())
    if int(limit[1]) < 2 * manager["max_request_headers_kb"]:
        yield "Envoy accepts requests that are too large for a check"
    filters, keys = gateway_file("jwt_authn.yaml")
    (provider,) = filters[0]["typed_config"]["providers"].values()
    if provider["issuer"] != f"http://{endpoint(keys[0])}" or endpoint(keys[0]) != default("WATCHWORD_HTTP_ADDR"):
        yield "jwt_authn: the issuer is not the HTTP listener"
    yield from verifier_faults("jwt_authn", provider, provider["remote_jwks"]["http_uri"]["uri"])
    if not filters[0]["typed_config"]["bypass_cors_preflight"]:
        yield "jwt_authn: denies CORS preflight requests"
    optional, *_ = [route["match"] for route in manager["route_config"]["virtual_hosts"][0]["routes"]]
    if filters[0]["typed_config"]["rules"][0]["match"] != optional:
        yield "jwt_authn: the paths that need no token are not those of envoy.yaml"
    for one in provider["claim_to_headers"]:
        if one["header_name"] not in code["identity"]:
            yield f"jwt_authn: sets {one['header_name']}"


def envoy_accepts():
    """Envoy itself accepts envoy.yaml, with the parts of jwt_authn.yaml, and with the patch of istio.yaml"""
    (with_jwt,), (filters, clusters) = gateway_file("envoy.yaml"), gateway_file("jwt_authn.yaml")
    (manager,) = typed(with_jwt, "HttpConnectionManager")
    manager["http_filters"][0:1] = filters
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        del route["typed_per_filter_config"]
    with_jwt["static_resources"]["clusters"] += clusters
    (with_patch,) = gateway_file("envoy.yaml")
    (manager,) = typed(with_patch, "HttpConnectionManager")
    (patch,) = (one for one in gateway_file("istio.yaml") if one["kind"] == "EnvoyFilter")
    manager |= patch["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]
    with tempfile.TemporaryDirectory() as folder:
        for what, config in (("envoy.yaml", *gateway_file("envoy.yaml")), ("jwt_authn", with_jwt), ("istio", with_patch)):
            path = Path(folder) / "envoy.yaml"
            path.write_text(yaml.safe_dump(config))
            result = run(PROGRAMS / "envoy", "--mode", "validate", "--log-level", "error", "-c", path)
            if result.returncode:
                yield f"{what}: {result.stderr.strip()[-300:]}"


def path_faults(manager):
    """The faults of an HTTP connection manager that let one path take the route of another."""
    wanted = {"normalize_path": True, "merge_slashes": True, "use_remote_address": True,
              "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT"}
    for name, value in wanted.items():
        if manager.get(name) != value:
            yield f"{name} is not {value}"
    if manager["common_http_protocol_options"]["headers_with_underscores_action"] != "REJECT_REQUEST":
        yield "accepts names with underscores"
    *lenient, last = [route["match"] for route in manager["route_config"]["virtual_hosts"][0]["routes"]]
    if last != {"prefix": "/"}:
        yield "the last route is not for all paths"
    for one in lenient:
        for path in ("/public/..;/x", "/api/..;/x", "/public/%252e%252e/x", "/api/%2e%2e/x", "/public/..\\x", "/api/..\\x"):
            if re.fullmatch(one["safe_regex"]["regex"], path):
                yield f"{path} takes the route {one['safe_regex']['regex']}"


def spellings(name):
    """A name with every choice of hyphens and underscores."""
    first, *rest = name.split("-")
    found = [first]
    for part in rest:
        found = [f"{begun}{sign}{part}" for begun in found for sign in "-_"]
    return found


def endpoint(cluster):
    """The address of a cluster's first node, as `ADDRESS:PORT`."""
    address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    return f"{address['address']}:{address['port_value']}"


def verifier_faults(what, rule, keys):
    """The faults of a rule by which a gateway verifies tokens offline."""
    path = "/.well-known/jwks.json"
    if path not in (ROOT / "src/http/well_known.rs").read_text():
        yield f"{what}: the keys are no longer at {path}"
    if keys != f"{rule['issuer']}{path}" or rule["audiences"] != ["watchword"]:
        yield f"{what}: the key URL or the audience is not Watchword's"


def istio_rules():
    """Istio calls the Service of deploy/kubernetes for every request, fails closed, and requires a token offline too"""
    objects, code = gateway_file("istio.yaml"), gateway_code()
    mesh, names, ask, verify, require = objects
    if mesh["spec"]["meshConfig"]["pathNormalization"] != {"normalization": "DECODE_AND_MERGE_SLASHES"}:
        yield "paths are not normalized before rules compare them"
    (patch,) = names["spec"]["configPatches"]
    manager = patch["patch"]["value"]["typed_config"]
    (mutation,) = typed(manager["early_header_mutation_extensions"], "HeaderMutation")
    if [one["remove"] for one in mutation["mutations"]] != code["identity"]:
        yield f"EnvoyFilter: does not remove {code['identity']}"
    if manager["common_http_protocol_options"]["headers_with_underscores_action"] != "REJECT_REQUEST":
        yield "EnvoyFilter: accepts names with underscores"
    if names["spec"]["workloadSelector"]["labels"] != verify["spec"]["selector"]["matchLabels"]:
        yield "EnvoyFilter: does not select the workload of RequestAuthentication"
    (provider,) = mesh["spec"]["meshConfig"]["extensionProviders"]
    service = next(m for _, m in manifests() if m["kind"] == "Service" and m["metadata"]["name"] == "watchword")
    authz, (port,) = provider["envoyExtAuthzGrpc"], (port["port"] for port in service["spec"]["ports"])
    if (authz["service"], authz["port"]) != ("watchword.watchword.svc.cluster.local", port):
        yield "the provider is not the Service of deploy/kubernetes"
    if authz["failOpen"] or float(authz["timeout"].rstrip("s")) < 1.5 * code["budget_seconds"]:
        yield "the provider fails open, or its timeout is shorter than the response time of Watchword"
    everything = {"action": "CUSTOM", "provider": {"name": provider["name"]}, "rules": [{}]}
    if not everything.items() <= ask["spec"].items():
        yield "some requests pass without a check"
    if require["spec"]["action"] != "DENY" or require["spec"]["rules"] != [
        {"from": [{"source": {"notRequestPrincipals": ["*"]}}]}
    ]:
        yield "requests without a token pass"
    for one in (ask, require):
        places = [(of["metadata"]["namespace"], of["spec"]["selector"]) for of in (one, verify)]
        if places[0] != places[1]:
            yield f"{one['metadata']['name']}: does not select the workload of RequestAuthentication"
    (rule,) = verify["spec"]["jwtRules"]
    if rule["issuer"] != kubernetes_settings()["WATCHWORD_TOKEN_ISSUER"]:
        yield "the issuer is not that of deploy/kubernetes"
    yield from verifier_faults("RequestAuthentication", rule, rule["jwksUri"])
    for one in rule["outputClaimToHeaders"]:
        if one["header"] not in code["identity"]:
            yield f"RequestAuthentication: sets {one['header']}"


def kong_rules():
    """Kong reads tokens from one header, checks expiry and the algorithm of the key, and removes identity headers"""
    (config,) = gateway_file("kong.yaml")
    plugins = {plugin["name"]: plugin["config"] for plugin in config["services"][0]["plugins"]}
    jwt = plugins["jwt"]
    places = (jwt["header_names"], jwt["uri_param_names"], jwt["cookie_names"])
    if places != (["authorization"], [], []) or (jwt["key_claim_name"], jwt["claims_to_verify"]) != ("kid", ["exp"]):
        yield "jwt: tokens are read from other places, or are not checked"
    if "run_on_preflight" in jwt or "anonymous" in jwt:
        yield "jwt: requests pass without a token"
    (algorithm,) = {secret["algorithm"] for consumer in config["consumers"] for secret in consumer["jwt_secrets"]}
    if f'"alg": "{algorithm}"' not in (ROOT / "src/common/bearer.rs").read_text():
        yield f"jwt: {algorithm} is not the signature algorithm of access tokens"
    forged = [spelling for name in gateway_code()["identity"] for spelling in spellings(name)]
    if plugins["request-transformer"]["remove"]["headers"] != forged:
        yield "request-transformer: does not remove all identity headers of clients"


def variables():
    """Every WATCHWORD_ variable in the files is a setting of src/config/flags/"""
    known = set(re.findall(r'env = "(WATCHWORD_\w+)"', flags()))
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *(ROOT / "deploy").rglob("*")]
    for path in (path for path in files if path.is_file()):
        for name in sorted({*re.findall(r"WATCHWORD_[A-Z]\w*", path.read_text())} - known):
            # Kubernetes sets these for a Service of this name.
            if not name.startswith(("WATCHWORD_PORT", "WATCHWORD_SERVICE")):
                yield f"{path.relative_to(ROOT)}: {name} is not a setting"


def flags():
    """The source text of all settings."""
    return "".join(path.read_text() for path in sorted((ROOT / "src/config/flags").glob("*.rs")))


def graces():
    """Each stop timeout is longer than the drain"""
    service = resolved_compose()["services"]["watchword"]
    pod = deployment()["spec"]["template"]["spec"]
    unit_stop = re.search(r"(?m)^TimeoutStopSec=(.*)$", unit())[1]
    for what, grace, given in (
        ("compose", seconds(service["stop_grace_period"]), service["environment"]),
        ("kubernetes", pod["terminationGracePeriodSeconds"], kubernetes_settings()),
        ("systemd", seconds(unit_stop), unit_settings("")),
    ):
        parts = ("WATCHWORD_DRAIN_DELAY", "WATCHWORD_DRAIN_TIMEOUT")
        drain = sum(seconds(given.get(name, default(name))) for name in parts)
        if grace <= drain:
            yield f"{what}: stop timeout {grace} s, drain {drain} s"


def default(variable):
    """The default value of a setting, from src/config/flags/."""
    return re.search(rf'env = "{variable}".*?default_value = "(.*?)"', flags(), re.S)[1]


def settings():
    """The binary accepts the settings of all files, and refuses those of the image alone"""
    binary = Path(sys.argv[1]).resolve()

    def ask(given):
        # The store does not run here, so its settings are left out.
        clean = {name: value for name, value in given.items() if "_STORE" not in name}
        return run(binary, "--store", "memory:", "check-config", env=clean | {"PATH": os.environ["PATH"]})

    with tempfile.TemporaryDirectory() as folder:
        compose = resolved_compose()["services"]["watchword"]["environment"]
        for what, given in (
            ("compose", image_settings() | compose),
            ("kubernetes", image_settings() | kubernetes_settings()),
            ("systemd", unit_settings(folder)),
        ):
            result = ask(given)
            warnings = [line for line in result.stdout.splitlines() if line.startswith("warning")]
            if result.returncode or warnings:
                yield f"{what}: {' '.join([result.stderr.strip(), *warnings]).strip()}"
        if "--insecure-plaintext" not in ask(image_settings()).stderr:
            yield "image: starts in plain text on every address without --insecure-plaintext"


CHECKS = (
    dockerfile_lint, dockerfile_rules, compose_schema, compose_rules, compose_redis,
    kubernetes_schema, kubernetes_rules, systemd_verify, envoy_rules, envoy_accepts, istio_rules, kong_rules,
    variables, graces, settings,
)


def main():
    """Runs every check and prints its result."""
    failed = False
    for check in CHECKS:
        if check is settings and len(sys.argv) < 2:
            print(f"not checked: {check.__doc__} (no binary given)")
            continue
        try:
            faults = list(check())
        except NotChecked as error:
            print(f"not checked: {check.__doc__} ({error})")
            failed |= "CI" in os.environ
            continue
        except Exception as error:  # noqa: BLE001: an exception in a check is a failure
            faults = [f"{type(error).__name__}: {error}"]
        failed |= bool(faults)
        print(f"FAILED: {check.__doc__}: {'; '.join(faults)}" if faults else f"ok: {check.__doc__}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
