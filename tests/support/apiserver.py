"""Runs a real Kubernetes API server with its own etcd, but without nodes and controllers, like the tool envtest."""

import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from secrets import token_hex

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.tether import free_port, tethered

ASSETS = "KUBEBUILDER_ASSETS"


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running API server. `kubeconfig` gives an administrator's rights. `command` runs kubectl with `kubeconfig`."""

    kubeconfig: Path
    command: tuple[str, ...]
    away: Callable[[], AbstractContextManager[None]]
    """Stops the server during a block. Afterwards it runs again with the same address and data."""

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl and return its stdout.

        Raises:
            RuntimeError: kubectl failed. The message contains its stderr.
        """
        done = subprocess.run([*self.command, *arguments], check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)} exits with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def service_account(self, namespace: str, name: str) -> Path:
        """Return a KUBECONFIG for a new ServiceAccount. The account has all rights, but its requests are throttled."""
        self.kubectl("-n", namespace, "create", "serviceaccount", name)
        binding = ("--clusterrole=cluster-admin", f"--serviceaccount={namespace}:{name}")
        self.kubectl("create", "clusterrolebinding", f"{namespace}-{name}", *binding)
        config = json.loads(self.kubeconfig.read_text(encoding="utf-8"))
        config["users"][0]["user"] = {"token": self.kubectl("-n", namespace, "create", "token", name).strip()}
        path = self.kubeconfig.with_name(f"kubeconfig-{namespace}-{name}")
        path.write_text(json.dumps(config), encoding="utf-8")
        return path


@contextmanager
def running_apiserver() -> Iterator[ApiServer]:
    """Run an API server on a free port of 127.0.0.1. The server's data is deleted when the server stops.

    Raises:
        RuntimeError: KUBEBUILDER_ASSETS does not name a folder with etcd, kube-apiserver and kubectl.
    """
    programs = _programs()
    with _running_etcd(programs / "etcd") as (etcd, folder):
        port, token = free_port(), token_hex(16)
        url, certificate = f"https://127.0.0.1:{port}", folder / "apiserver.crt"
        (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n', encoding="utf-8")
        signing = _signing_key(folder)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(_kubeconfig(url, certificate, token), encoding="utf-8")
        options = {
            "etcd-servers": etcd,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": port,
            "cert-dir": folder,  # The server creates its certificate in this folder, and `ready` waits for it.
            "token-auth-file": folder / "tokens.csv",
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": signing,
            "service-account-signing-key-file": signing,
            "service-cluster-ip-range": "10.0.0.0/24",
            # No controller runs here, so no namespace has the service account `default`, which every pod needs.
            # The admission plugin ServiceAccount would refuse the pods, so it is disabled.
            "disable-admission-plugins": "ServiceAccount",
        }
        command = [str(programs / "kube-apiserver"), *(f"--{name}={value}" for name, value in options.items())]

        def ready() -> bool:
            if not certificate.exists():
                return False
            try:
                trusted = ssl.create_default_context(cafile=str(certificate))
                answer = httpx.get(f"{url}/readyz", verify=trusted, trust_env=False, timeout=5)
            except (httpx.TransportError, ssl.SSLError):
                return False
            return answer.status_code == HTTPStatus.OK

        with ExitStack() as running:

            def start() -> None:
                (folder / "running").mkdir()
                # After a SIGTERM, the server would wait for a minute for the end of its watches.
                running.enter_context(tethered(command, folder=folder / "running", ready=ready, stop="KILL"))

            @contextmanager
            def away() -> Iterator[None]:
                running.close()
                try:
                    yield
                finally:
                    start()

            start()
            yield ApiServer(kubeconfig, (str(programs / "kubectl"), "--kubeconfig", str(kubeconfig)), away)


def _signing_key(folder: Path) -> Path:
    """Write a new key, which signs the tokens of ServiceAccounts, into a file in `folder`."""
    path = folder / "service-accounts.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return path


@contextmanager
def _running_etcd(program: Path) -> Iterator[tuple[str, Path]]:
    """Run etcd. Yields its URL, and a folder that is deleted at its end, even if the test process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="anb-etcd-"))
    url, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/health", trust_env=False, timeout=5).status_code == HTTPStatus.OK
        except httpx.TransportError:
            return False

    options = {
        "data-dir": folder / "data",
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": peers,
        "initial-advertise-peer-urls": peers,
        "initial-cluster": f"default={peers}",
    }
    command = [str(program), *(f"--{name}={value}" for name, value in options.items())]
    with tethered(command, folder=folder, ready=ready):
        yield url, folder


def _programs() -> Path:
    named = os.environ.get(ASSETS)
    wanted = f"{ASSETS} names the folder with etcd, kube-apiserver and kubectl, as `setup-envtest use -p env` prints it"
    if not named:
        raise RuntimeError(f"{wanted}; it is not set.")
    folder = Path(named)
    missing = [name for name in ("etcd", "kube-apiserver", "kubectl") if not (folder / name).is_file()]
    if missing:
        raise RuntimeError(f"{wanted}; in {folder} there is no {', no '.join(missing)}.")
    return folder


def _kubeconfig(url: str, certificate: Path, token: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "own",
            "clusters": [{"name": "own", "cluster": {"server": url, "certificate-authority": str(certificate)}}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "own", "context": {"cluster": "own", "user": "admin"}}],
        }
    )
