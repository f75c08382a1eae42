"""What a person can do with a demo that was left running."""

from __future__ import annotations

import shutil

from devkit.toolchain import Toolchain
from examples.demo.world import COMMAND, World


def how_to_look(world: World, artifact_id: str) -> str:
    """Commands and addresses, ready to be pasted; ``artifact_id`` is what serves now."""
    alias = "" if shutil.which("kubectl") else f"\n  alias kubectl={Toolchain().find('kubectl')}"
    version = next(iter(world.agents))
    return f"""
The demo goes on: users keep talking to the agent. In another terminal:

  export KUBECONFIG={world.cluster.kubeconfig}{alias}
  kubectl -n {world.namespace} get aro,arev
  kubectl -n {world.namespace} describe aro {world.name}

Deliver {version} again, and watch:

  kubectl apply -f {world.directory}/{world.name}-{version}.yaml
  kubectl -n {world.namespace} get aro {world.name} -w

Read what was compared in the shadow:

  export AGENTROLLOUT_SHADOW_RECORDS={world.records}
  {COMMAND} shadow losses {world.name} -n {world.namespace}

Ask as a user, and see in x-agent-version who answers:

  curl -i {world.users_url}/v1/chat/completions -H 'host: {world.host}' \\
    -H 'x-session-id: me' -H 'content-type: application/json' \\
    -d '{{"messages": [{{"role": "user", "content": "Where is my order 1234?"}}]}}'

  Prometheus   {world.prometheus.url}
  Operator     {world.operator_url}/metrics
               {world.operator_url}/readyz
               {world.operator_url}/artifacts/{artifact_id}
  Shadow       {world.shadow_url}/metrics
  Envoy admin  {world.envoy.admin_url}
  Logs         {world.directory}

Ctrl-C here stops and removes all of it."""
