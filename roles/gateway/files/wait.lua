-- Written by Ansible (gpufleet.vllm.gateway); changes made here are lost.
-- HAProxy answers 503 at once where a backend has no server that is up. This lets a request wait for one, so that a
-- model with one replica can be restarted. It sleeps between looks and holds nothing but the request.
local LOOK_MS = 200

core.register_action("wait_for_server", { "http-req" }, function(txn, seconds)
  local backend = txn:get_var("txn.backend")
  local waited, most = 0, tonumber(seconds) * 1000
  while txn.f:nbsrv(backend) == 0 and waited < most do
    core.msleep(LOOK_MS)
    waited = waited + LOOK_MS
  end
  txn:set_var("txn.waited_ms", waited)
end, 1)
