"""Checks the deployment files without a container engine or a cluster: `python tests/deploy/check.py [binary]`.

Needs the packages of requirements.txt beside it, and no network. Uses systemd-analyze, redis-server and redis-cli;
where one is missing the line says "not checked", which is a failure in CI. A watchword binary, if named, is asked
whether it takes the settings that the files give it. One line a check; the exit code is 1 when any failed.
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
# The releases that the manifests promise to suit: the oldest that knows all their fields, and the newest with a schema.
KUBERNETES = ("1.27", "1.37")
LABELS = {"app.kubernetes.io/name": "watchword"}
# systemd's own measure of how much a unit may do, in tenths; 15 as it stands, 96 for a unit that says nothing.
SYSTEMD_EXPOSURE_MAX = 20
REDIS_START_SECONDS_MAX = 10
COMMAND_SECONDS_MAX = 60


class NotChecked(Exception):
    """A program that the check needs is missing."""


def run(*command, **options):
    """Runs a program to its end; its output is text, and its exit code is the caller's to judge."""
    settings = {"capture_output": True, "text": True, "cwd": ROOT, "timeout": COMMAND_SECONDS_MAX}
    return subprocess.run([str(part) for part in command], **(settings | options))


def need(program):
    """The path of a program of the machine."""
    path = shutil.which(program)
    if not path:
        raise NotChecked(f"{program} is missing")
    return path


def seconds(text):
    """`5s`, `10s`, `1m30s` as a number."""
    return sum(int(count) * {"s": 1, "m": 60}[unit] for count, unit in re.findall(r"(\d+)([ms])", text))


# === The files, parsed


def resolved_compose():
    """The Compose file as Docker Compose reads it: checked against its schema, every short form written out."""
    result = run(PROGRAMS / "docker-compose", "config", "--format", "json")
    if result.returncode:
        raise ValueError(result.stderr.strip())
    return json.loads(result.stdout)


def manifests():
    """Every Kubernetes object but the kustomization: its file's name and its content."""
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
    """The unit's lines; with comments, the settings that are commented out are in force."""
    text = (ROOT / "deploy/systemd/watchword.service").read_text()
    return re.sub(r"(?m)^#(?=(LoadCredential|Environment)=)", "", text) if comments else text


def unit_settings(folder):
    pairs = re.findall(r"(?m)^Environment=(WATCHWORD_\w+)=(.*)$", unit())
    return {name: value.replace("%S", str(folder)) for name, value in pairs}


# === The checks: each gives what is wrong, one text a fault


def dockerfile_lint():
    """hadolint has nothing to say about the Dockerfile"""
    result = run(PROGRAMS / "hadolint", "--no-color", "Dockerfile")
    yield from (result.stdout + result.stderr).splitlines() or (["hadolint failed"] if result.returncode else [])


def dockerfile_rules():
    """The image builds with Cargo.toml's Rust, runs as a number, needs no shell, consents to nothing"""
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
        yield "the image consents to plain text; only whoever runs it may"
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for command in (c for c in commands if c.cmd == "COPY" and not any("--from" in flag for flag in c.flags)):
        for source in command.value[:-1]:
            if not (ROOT / source).exists() or f"!{source}" not in allowed:
                yield f"COPY {source}: not in the repository, or .dockerignore keeps it out"
    if "*" not in allowed or any(line.startswith("!") and not (ROOT / line[1:]).exists() for line in allowed):
        yield ".dockerignore lets everything in, or names what is not there"


def compose_schema():
    """Docker Compose takes docker-compose.yml"""
    resolved_compose()
    return ()


def compose_rules():
    """Compose publishes on 127.0.0.1 only, never Redis, and its containers have no rights"""
    for name, service in resolved_compose()["services"].items():
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                yield f"{name} publishes {port['target']} on {port.get('host_ip', 'every address')}"
        if name == "redis" and service.get("ports"):
            yield "redis is published"
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"] or not service.get("mem_limit"):
            yield f"{name} lacks read_only, cap_drop ALL or mem_limit"
        if service.get("security_opt") != ["no-new-privileges:true"] or service.get("privileged"):
            yield f"{name} may gain rights"


def compose_redis():
    """The command of Compose's redis starts one that keeps users and whose user may do its work, and no more"""
    server, client = need("redis-server"), need("redis-cli")
    service = resolved_compose()["services"]["redis"]
    # `config` doubles every `$` again.
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
    """What the Redis of `compose_redis` does wrong."""
    give_up_at = time.monotonic() + REDIS_START_SECONDS_MAX
    while run("sh", "-c", probe).returncode:
        if redis.poll() is not None or time.monotonic() > give_up_at:
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
        yield "any password does"
    if "NOAUTH" not in run(*cli, "PING").stdout:
        yield "nobody needs a password"


def kubernetes_schema():
    """Every manifest suits the Kubernetes schemas, strictly"""
    for file, manifest in manifests():
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{file} ({version}): {error.message} at {'.'.join(map(str, error.path))}"


def kubernetes_rules():
    """The manifests belong together: namespace, labels, ports, files, and the pod keeps to the restricted profile"""
    spec = deployment()["spec"]["template"]["spec"]
    container = spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for file, manifest in manifests():
        if manifest["kind"] != "Namespace" and manifest["metadata"]["namespace"] != "watchword":
            yield f"{file}: another namespace"
        body = manifest.get("spec", {})
        selector = body.get("podSelector") or body.get("selector")
        if selector and selector.get("matchLabels", selector) != LABELS:
            yield f"{file}: selects other pods than Watchword's"
        if manifest["kind"] == "Service" and any(port["targetPort"] not in ports for port in body["ports"]):
            yield f"{file}: a port that the pod does not have"
        if manifest["kind"] == "NetworkPolicy":
            opened = {port["port"] for rule in body["ingress"] for port in rule["ports"]}
            if not opened <= set(ports.values()) or any(not rule.get("from") for rule in body["ingress"]):
                yield f"{file}: opens a port that is not there, or opens one to everybody"
            if any(not rule.get("to") for rule in body["egress"]):
                yield f"{file}: lets calls out to everywhere"
    if deployment()["spec"]["template"]["metadata"]["labels"] != LABELS:
        yield "deployment.yaml: the pods carry other labels"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if container[probe]["httpGet"]["port"] != "ops":
            yield f"deployment.yaml: {probe} is not on the ops door"
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
        yield "deployment.yaml: the pod may do more than the restricted profile allows"
    if "cpu" in container["resources"]["limits"] or "memory" not in container["resources"]["limits"]:
        yield "deployment.yaml: wants a memory limit, and no CPU limit"
    listed = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())["resources"]
    there = {file for file, manifest in manifests() if manifest["kind"] != "Secret"}
    for file in sorted(set(listed) ^ there):
        yield f"kustomization.yaml: {file} is not listed, or not there, or a Secret"


def systemd_verify():
    """systemd knows every line of the unit, also with those for Redis, and counts it as well locked up"""
    analyze = need("systemd-analyze")
    for comments in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "watchword.service")
            # The binary is not installed here, and `verify` wants to see one.
            path.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit(comments)))
            result = run(analyze, "verify", "--man=no", path)
            # It also complains about other units of the machine.
            faults = [line for line in result.stderr.splitlines() if "watchword" in line]
            yield from faults
            rating = run(analyze, "security", "--offline=true", f"--threshold={SYSTEMD_EXPOSURE_MAX}", path)
            if rating.returncode and not faults:
                yield (rating.stdout + rating.stderr).strip().splitlines()[-1]


def gateway_code():
    """What src/ says to gateways: identity headers, headers that are read, words of routes, the store's budget."""
    code = (ROOT / "src/api/ext_authz.rs").read_text()
    budget = re.search(r"STORE_BUDGET: .*from_millis\((\d+)\)", (ROOT / "src/domain/gateway/ext_authz.rs").read_text())
    return {
        "identity": re.findall(r'(?m)^const \w+: &str = "(x-auth-[\w-]+)"', code),
        "read": {"authorization", *re.findall(r'has\("([\w-]+)"\)', code)},
        "words": {("auth", "required"), *re.findall(r'has_setting\("(\w+)", "(\w+)"\)', code)},
        "budget_seconds": int(budget[1]) / 1000,
    }


def gateway_file(name):
    return list(yaml.safe_load_all((ROOT / "deploy/envoy" / name).read_text()))


def typed(node, name):
    """Every mapping below `node` that Envoy's type of that name is for."""
    if isinstance(node, dict):
        if node.get("@type", "").endswith(f".{name}"):
            yield node
        node = list(node.values())
    for inner in node if isinstance(node, list) else ():
        yield from typed(inner, name)


def envoy_rules():
    """Envoy asks the node that is there, fails closed, waits long enough, and knows the code's headers and words"""
    (config,), code = gateway_file("envoy.yaml"), gateway_code()
    clusters = {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}
    (manager,), (authz,) = typed(config, "HttpConnectionManager"), typed(config, "ExtAuthz")
    if authz["failure_mode_allow"] or not authz["encode_raw_headers"] or authz["transport_api_version"] != "V3":
        yield "ext_authz: fails open, joins headers, or speaks another version"
    if float(authz["grpc_service"]["timeout"].rstrip("s")) < 1.5 * code["budget_seconds"]:
        yield "ext_authz: gives up before Watchword answers"
    if {pattern["exact"] for pattern in authz["allowed_headers"]["patterns"]} != code["read"]:
        yield f"ext_authz: sends other headers than {sorted(code['read'])}"
    (mutation,) = typed(manager["early_header_mutation_extensions"], "HeaderMutation")
    if [one["remove"] for one in mutation["mutations"]] != code["identity"]:
        yield f"early_header_mutation: does not remove {code['identity']}"
    routes = [one["check_settings"]["context_extensions"] for one in typed(config, "ExtAuthzPerRoute")]
    for route in routes:
        for word in set(route.items()) - code["words"]:
            yield f"a route says {word}, which means nothing"
    watchword = clusters[authz["grpc_service"]["envoy_grpc"]["cluster_name"]]
    (protocol,) = typed(watchword, "HttpProtocolOptions")
    if "http2_protocol_options" not in protocol["explicit_http_config"]:
        yield "watchword: not HTTP/2"
    if endpoint(watchword) != default("WATCHWORD_GRPC_ADDR"):
        yield f"watchword: {endpoint(watchword)} is not where the gRPC door is"
    limit = re.search(r"CHECK_BYTES_MAX: usize = (\d+) \* 1024", (ROOT / "src/api/methods/ext_authz.rs").read_text())
    if int(limit[1]) < 2 * manager["max_request_headers_kb"]:
        yield "Envoy takes requests that a check has no room for"
    filters, keys = gateway_file("jwt_authn.yaml")
    (provider,) = filters[0]["typed_config"]["providers"].values()
    if provider["issuer"] != f"http://{endpoint(keys[0])}" or endpoint(keys[0]) != default("WATCHWORD_HTTP_ADDR"):
        yield "jwt_authn: the issuer is not the HTTP door"
    yield from verifier_faults("jwt_authn", provider, provider["remote_jwks"]["http_uri"]["uri"])
    for one in provider["claim_to_headers"]:
        if one["header_name"] not in code["identity"]:
            yield f"jwt_authn: sets {one['header_name']}"


def endpoint(cluster):
    """Where a cluster's first node is, as `ADDRESS:PORT`."""
    address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    return f"{address['address']}:{address['port_value']}"


def verifier_faults(what, rule, keys):
    """What is wrong with a rule by which a gateway verifies tokens by itself."""
    path = "/.well-known/jwks.json"
    if path not in (ROOT / "src/http/well_known.rs").read_text():
        yield f"{what}: keys are not at {path} any more"
    if keys != f"{rule['issuer']}{path}" or rule["audiences"] != ["watchword"]:
        yield f"{what}: keys or audience are not Watchword's"


def istio_rules():
    """Istio asks the Service that is there about every request, fails closed, and requires a token where it verifies"""
    objects, code = gateway_file("istio.yaml"), gateway_code()
    mesh, ask, verify, require = objects
    (provider,) = mesh["spec"]["meshConfig"]["extensionProviders"]
    service = next(m for _, m in manifests() if m["kind"] == "Service" and m["metadata"]["name"] == "watchword")
    authz, (port,) = provider["envoyExtAuthzGrpc"], (port["port"] for port in service["spec"]["ports"])
    if (authz["service"], authz["port"]) != ("watchword.watchword.svc.cluster.local", port):
        yield "the provider is not the Service of deploy/kubernetes"
    if authz["failOpen"] or float(authz["timeout"].rstrip("s")) < 1.5 * code["budget_seconds"]:
        yield "the provider fails open, or gives up before Watchword answers"
    everything = {"action": "CUSTOM", "provider": {"name": provider["name"]}, "rules": [{}]}
    if not everything.items() <= ask["spec"].items():
        yield "requests pass that nobody asked about"
    if require["spec"]["action"] != "DENY" or require["spec"]["rules"] != [
        {"from": [{"source": {"notRequestPrincipals": ["*"]}}]}
    ]:
        yield "requests without a token pass"
    for one in (ask, require):
        places = [(of["metadata"]["namespace"], of["spec"]["selector"]) for of in (one, verify)]
        if places[0] != places[1]:
            yield f"{one['metadata']['name']}: another workload"
    (rule,) = verify["spec"]["jwtRules"]
    if rule["issuer"] != kubernetes_settings()["WATCHWORD_TOKEN_ISSUER"]:
        yield "the issuer is not that of deploy/kubernetes"
    yield from verifier_faults("RequestAuthentication", rule, rule["jwksUri"])
    for one in rule["outputClaimToHeaders"]:
        if one["header"] not in code["identity"]:
            yield f"RequestAuthentication: sets {one['header']}"


def kong_rules():
    """Kong reads tokens in one place, checks their time and the key's own algorithm, and removes the code's headers"""
    (config,) = gateway_file("kong.yaml")
    plugins = {plugin["name"]: plugin["config"] for plugin in config["services"][0]["plugins"]}
    jwt = plugins["jwt"]
    places = (jwt["header_names"], jwt["uri_param_names"], jwt["cookie_names"])
    if places != (["authorization"], [], []) or (jwt["key_claim_name"], jwt["claims_to_verify"]) != ("kid", ["exp"]):
        yield "jwt: tokens are read elsewhere, or not checked"
    if "run_on_preflight" in jwt or "anonymous" in jwt:
        yield "jwt: requests pass without a token"
    (algorithm,) = {secret["algorithm"] for consumer in config["consumers"] for secret in consumer["jwt_secrets"]}
    if f'"alg": "{algorithm}"' not in (ROOT / "src/common/bearer.rs").read_text():
        yield f"jwt: {algorithm} is not what tokens are signed with"
    if plugins["request-transformer"]["remove"]["headers"] != gateway_code()["identity"]:
        yield "request-transformer: lets identity headers of clients through"


def variables():
    """Every WATCHWORD_ variable in the files is a setting of src/config/flags/"""
    known = set(re.findall(r'env = "(WATCHWORD_\w+)"', flags()))
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *(ROOT / "deploy").rglob("*")]
    for path in (path for path in files if path.is_file()):
        for name in sorted({*re.findall(r"WATCHWORD_[A-Z]\w*", path.read_text())} - known):
            # Kubernetes' own for a Service of that name.
            if not name.startswith(("WATCHWORD_PORT", "WATCHWORD_SERVICE")):
                yield f"{path.relative_to(ROOT)}: {name} is no setting"


def flags():
    """The source text of all settings."""
    return "".join(path.read_text() for path in sorted((ROOT / "src/config/flags").glob("*.rs")))


def graces():
    """What stops a node waits longer than it drains"""
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
            yield f"{what}: {grace} s to stop, {drain} s to drain"


def default(variable):
    """A setting's default, from the flags."""
    return re.search(rf'env = "{variable}".*?default_value = "(.*?)"', flags(), re.S)[1]


def settings():
    """The binary takes the settings of all files, and refuses the image's as they are"""
    binary = Path(sys.argv[1]).resolve()

    def ask(given):
        # The store is not there; all else must be right.
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
            yield "image: starts in plain text on every address without being told to"


CHECKS = (
    dockerfile_lint, dockerfile_rules, compose_schema, compose_rules, compose_redis,
    kubernetes_schema, kubernetes_rules, systemd_verify, envoy_rules, istio_rules, kong_rules, variables, graces,
    settings,
)


def main():
    """Runs every check, and says what became of it."""
    failed = False
    for check in CHECKS:
        if check is settings and len(sys.argv) < 2:
            print(f"not checked: {check.__doc__} (no binary was named)")
            continue
        try:
            faults = list(check())
        except NotChecked as error:
            print(f"not checked: {check.__doc__} ({error})")
            failed |= "CI" in os.environ
            continue
        except Exception as error:  # noqa: BLE001: a check that breaks is a check that failed
            faults = [f"{type(error).__name__}: {error}"]
        failed |= bool(faults)
        print(f"FAILED: {check.__doc__}: {'; '.join(faults)}" if faults else f"ok: {check.__doc__}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
