-- Written by Ansible (gpufleet.vllm.gateway); changes made here are lost.
-- HAProxy answers 503 at once where a backend has no server that is up. This lets a request wait for one, so that a
-- model with one replica can be restarted. It sleeps between looks and holds nothing but the request.
-- A process that ends after a reload counts no servers any more (nbsrv is 0) and checks none: there it does not wait.
local LOOK_MS = 200

-- A boolean or a number, as the version has it.
local function is_stopping(txn)
  local said = txn.f:stopping()
  return said == true or said == 1
end

core.register_action("wait_for_server", { "http-req" }, function(txn, seconds)
  local backend = txn:get_var("txn.backend")
  local waited, most = 0, tonumber(seconds) * 1000
  while txn.f:nbsrv(backend) == 0 and not is_stopping(txn) and waited < most do
    core.msleep(LOOK_MS)
    waited = waited + LOOK_MS
  end
  txn:set_var("txn.waited_ms", waited)
end, 1)
