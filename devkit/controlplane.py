"""A Kubernetes API of one's own: etcd and kube-apiserver on loopback, in about three seconds."""

import csv
import io
import secrets
import ssl
from collections.abc import Sequence
from pathlib import Path

from devkit.credentials import User, write_kubeconfig, write_service_account_keys, write_serving_certificate
from devkit.errors import DevkitError
from devkit.kubectl import run_kubectl
from devkit.process import LOOPBACK, Process, free_port
from devkit.service import Service, answers
from devkit.toolchain import Toolchain

_START_TIMEOUT = (
    60.0  # seconds; two seconds on an idle machine, but builds and other instances may run beside it
)
_ADMIN = User("admin", ("system:masters",))


class ControlPlane(Service):
    """etcd, kube-apiserver with RBAC and, when asked for, garbage collection and namespace deletion.

    There is no scheduler, no kubelet and no controller for Deployments: what is written stays as written. Without
    `controllers`, deleted namespaces stay `Terminating` and owned objects outlive their owners.

    Usage::

        with ControlPlane(users=[User("alice", ("team-a",))]) as control_plane:
            control_plane.kubectl("apply", "-f", "crds/")
            operator(kubeconfig=control_plane.kubeconfig)
    """

    def __init__(
        self,
        *,
        users: Sequence[User] = (),
        controllers: bool = False,
        directory: Path | None = None,
        toolchain: Toolchain | None = None,
        authorizer: str = "",
        feature_gates: str = "",
    ) -> None:
        """Prepare it.

        ``authorizer`` is the URL of a webhook that is asked before RBAC whether somebody may do something,
        ``feature_gates`` what the API server's flag of that name takes.
        """
        super().__init__("controlplane", directory)
        self._toolchain = toolchain or Toolchain()
        self._with_controllers = controllers
        self._feature_gates = feature_gates
        self._users = {user.name: user for user in (_ADMIN, *users)}
        self._tokens = {name: secrets.token_urlsafe(24) for name in self._users}
        self._etcd: Process | None = None
        self._api_server: Process | None = None
        self._controller_manager: Process | None = None
        self._ports: dict[str, int] = {}
        write_serving_certificate(self.directory)
        write_service_account_keys(self.directory)
        self._write_tokens()
        self._authorizer = self.directory / "authorizer.kubeconfig" if authorizer else None
        if self._authorizer:
            write_kubeconfig(
                self._authorizer, server=authorizer, ca=self.directory / "ca.crt", user="api-server", token=""
            )

    @property
    def url(self) -> str:
        """The API server's address, without a slash at the end."""
        return f"https://{LOOPBACK}:{self._ports['api']}"

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of a cluster administrator."""
        return self.user_kubeconfig(_ADMIN.name)

    @property
    def api_server(self) -> Process:
        """The kube-apiserver process, to pause, kill or start again."""
        return _started(self._api_server)

    @property
    def etcd(self) -> Process:
        """The etcd process."""
        return _started(self._etcd)

    def user_kubeconfig(self, name: str) -> Path:
        """Return the kubeconfig of a user given to the constructor (the token file is read once, at the start).

        Raises:
            DevkitError: when no such user was given.
        """
        if name not in self._users:
            raise DevkitError(
                f"This control plane has no user {name!r}: pass it as ControlPlane(users=[User(…)])."
            )
        return self.directory / f"{name}.kubeconfig"

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - the name subprocess.run gives it
        """Run kubectl as administrator and return what it printed.

        Raises:
            DevkitError: when it fails, with its words.
        """
        return run_kubectl(self._toolchain.find("kubectl"), self.kubeconfig, args, input)

    def wait_ready(self) -> None:
        """Wait until the API server answers, after its process was started again or resumed."""
        ca = ssl.create_default_context(cafile=self.directory / "ca.crt")
        admin = self._tokens[_ADMIN.name]
        self.api_server.wait_ready(
            lambda: answers(f"{self.url}/readyz", verify=ca, token=admin),
            timeout=_START_TIMEOUT,
            port=self._ports["api"],
        )

    def stop(self) -> None:
        """Stop all processes; objects are kept."""
        for process in (self._controller_manager, self._api_server, self._etcd):
            if process is not None:
                process.stop()

    def _choose_ports(self) -> None:
        self._ports = {name: free_port() for name in ("api", "etcd", "etcd-peer", "controllers")}
        for name, token in self._tokens.items():
            path = self.directory / f"{name}.kubeconfig"
            write_kubeconfig(path, server=self.url, ca=self.directory / "ca.crt", user=name, token=token)
        self._etcd = Process("etcd", self._etcd_command(), self.directory)
        self._api_server = Process("kube-apiserver", self._api_server_command(), self.directory)
        if self._with_controllers:
            command = self._controller_manager_command()
            self._controller_manager = Process("kube-controller-manager", command, self.directory)

    def _launch(self) -> None:
        self.etcd.start()
        port = self._ports["etcd"]
        self.etcd.wait_ready(
            lambda: answers(f"http://{LOOPBACK}:{port}/health"), timeout=_START_TIMEOUT, port=port
        )
        self.api_server.start()
        self.wait_ready()
        if self._controller_manager is not None:
            self._controller_manager.start()
            port = self._ports["controllers"]
            self._controller_manager.wait_ready(
                lambda: answers(f"https://{LOOPBACK}:{port}/healthz"), timeout=_START_TIMEOUT, port=port
            )

    def _write_tokens(self) -> None:
        path = self.directory / "tokens.csv"
        path.touch(mode=0o600)
        rows = io.StringIO()
        for user in self._users.values():
            csv.writer(rows).writerow([self._tokens[user.name], user.name, user.name, ",".join(user.groups)])
        path.write_text(rows.getvalue())

    def _etcd_command(self) -> list[str | Path]:
        client = f"http://{LOOPBACK}:{self._ports['etcd']}"
        peer = f"http://{LOOPBACK}:{self._ports['etcd-peer']}"
        return [
            self._toolchain.find("etcd"),
            "--name=devkit",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=devkit={peer}",
            "--unsafe-no-fsync",  # nobody needs these objects after a power cut
            "--log-level=warn",
        ]

    def _api_server_command(self) -> list[str | Path]:
        files = self.directory
        return [
            self._toolchain.find("kube-apiserver"),
            f"--etcd-servers=http://{LOOPBACK}:{self._ports['etcd']}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={self._ports['api']}",
            f"--tls-cert-file={files / 'serving.crt'}",
            f"--tls-private-key-file={files / 'serving.key'}",
            f"--cert-dir={files / 'api-server-certificates'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={files / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={files / 'service-accounts.key'}",
            *self._authorization(),
            f"--token-auth-file={files / 'tokens.csv'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",  # would publish a loopback address, which the API itself refuses
            "--disable-admission-plugins=ServiceAccount",  # no controller makes the default account it asks for
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",  # as stricter distributions do
            *([f"--feature-gates={self._feature_gates}"] if self._feature_gates else []),
        ]

    def _authorization(self) -> list[str]:
        if self._authorizer is None:
            return ["--authorization-mode=RBAC"]
        return [
            "--authorization-mode=Webhook,RBAC",
            f"--authorization-webhook-config-file={self._authorizer}",
            "--authorization-webhook-version=v1",
        ]

    def _controller_manager_command(self) -> list[str | Path]:
        return [
            self._toolchain.find("kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig}",
            "--controllers=garbage-collector-controller,namespace-controller",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self._ports['controllers']}",
            f"--cert-dir={self.directory / 'controller-manager-certificates'}",
            "--leader-elect=false",
        ]


def _started(process: Process | None) -> Process:
    if process is None:
        raise DevkitError("The control plane was not started yet: use it in a `with` block or call start().")
    return process
