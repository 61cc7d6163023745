# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of faults: the host, the service, its options. Data.

What says most comes first: a generic end of a process is explained by whatever else was found.
"""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import FAIL, WARN, Signature

AREA = "Host and service"
SIGNATURES = (
    Signature(
        id="port_in_use",
        area=AREA,
        title="The port is taken",
        severity=FAIL,
        patterns=(
            r"error while attempting to bind on address \('(?P<host>[^']*)', (?P<port>\d+)\): address already in use",
            r"Address already in use",
        ),
        cause="Another program listens on port {port}.",
        remedies=(
            "See who it is (ss -ltnp) and stop it: often a second instance, or an engine that was started by hand.",
            "Give the instance another port.",
        ),
        sources=("entrypoints/launchers/launcher.py:358",),
        sample="(APIServer pid=801) OSError: [Errno 98] Address already in use",
        near="INFO 11-23 20:31:07 [utils.py:1] Port 8000 is already in use, trying port 8001",
    ),
    Signature(
        id="rank_port_in_use",
        area=AREA,
        title="A port at which the ranks meet is taken",
        severity=FAIL,
        patterns=(
            r"The server socket has failed to (?:listen on|bind to) any local network address.*?port: (?P<port>\d+)",
            r"The server socket has failed to (?:listen on|bind to).*?:(?P<port>\d+)\b",
            r"ZMQError: Address already in use(?: \(addr='tcp://[^']*:(?P<port>\d+)'\))?",
            r"EADDRINUSE",
        ),
        cause="Port {port}, at which the ranks of the engine meet, was taken by another program at the same moment: "
        "vLLM chooses a free one and opens it later. The API's port has nothing to do with it.",
        remedies=(
            "Start the instance again: the next port is another one.",
            "Start engines of one host one after the other, or give each a master_port (or VLLM_PORT in environment) "
            "far "
            "from those of the others.",
            "See who holds it, if it stays: ss -ltnp.",
        ),
        sources=("torch TCPStore.cpp", "vllm-project/vllm#39015", "vllm-project/vllm#15987"),
        sample="(Worker_TP1 pid=815) ERROR 11-23 20:31:07 [multiproc_executor.py:871] "
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 32847, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use",
        near="(APIServer pid=801) OSError: [Errno 98] Address already in use",
        explains=("port_in_use",),
    ),
    Signature(
        id="address_not_here",
        area=AREA,
        title="The address is not one of the host",
        severity=FAIL,
        patterns=(r"Cannot assign requested address",),
        cause="host names an address that no interface of this machine has.",
        remedies=("Correct host (ip -brief address lists them), or write 0.0.0.0 behind a firewall.",),
        sources=("errno 99",),
        sample="(APIServer pid=801) OSError: [Errno 99] Cannot assign requested address",
        near="(APIServer pid=801) OSError: [Errno 98] Address already in use",
    ),
    Signature(
        id="dns_failed",
        area=AREA,
        title="A name cannot be resolved",
        severity=FAIL,
        patterns=(
            r"Failed to resolve '(?P<name>[^']+)'",
            r"(?:host='|Could not resolve host: |Cannot connect to host |[Cc]ould not translate host name \")"
            r"(?P<name>[\w.-]+)(?![\w.-]).*(?:name resolution|Name or service not known|No address associated)",
            r"Could not resolve host: (?P<name>[\w.-]+)",
            r"Temporary failure in name resolution|Name or service not known|nodename nor servname provided"
            r"|No address associated with hostname|NameResolutionError|Name does not resolve",
            r"\[Errno -[235]\]",
        ),
        cause="DNS does not know {name}, or did not answer: the hub, an object store, a tracing endpoint, a proxy, or "
        "a "
        "host of the engine that is written by name.",
        remedies=(
            "Ask on the host: getent hosts NAME; resolvectl status. Correct the name, or /etc/hosts and the resolver.",
            "Write addresses in place of names in nodes, master_addr and host.",
            "If it is the hub: leave HF_HUB_OFFLINE out of environment; deploy.yml brings the model before the start.",
        ),
        sources=("getaddrinfo(3)", "vllm-project/vllm#19002", "vllm-project/vllm#3656"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] urllib3.exceptions.NameResolutionError: "
        "HTTPSConnection(host='s3.internal', port=443): Failed to resolve 's3.internal' ([Errno -3] Temporary failure "
        "in "
        "name resolution)",
        near="(APIServer pid=801) OSError: [Errno 99] Cannot assign requested address",
    ),
    Signature(
        id="certificate_not_trusted",
        area=AREA,
        title="A certificate is not trusted",
        severity=FAIL,
        patterns=(r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerificationError",),
        cause="A server's certificate is not signed by an authority that Python knows: a proxy that inspects traffic, "
        "an "
        "own authority, or a clock that is wrong.",
        remedies=(
            "Name the authorities: SSL_CERT_FILE and REQUESTS_CA_BUNDLE in environment (a file on the host).",
            "See the host's clock: timedatectl.",
        ),
        sources=("Python ssl",),
        sample="requests.exceptions.SSLError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries "
        "exceeded "
        "(Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
        "self-signed certificate in certificate chain (_ssl.c:1000)')))",
        near="SSLError: EOF occurred in violation of protocol",
        explains=("hub_not_reached",),
    ),
    Signature(
        id="wrong_option",
        area=AREA,
        title="vLLM does not know an option",
        severity=FAIL,
        patterns=(r"vllm(?: serve)?: error: (?P<what>.+)$",),
        cause="{what}: a typing error, or an option that this release no longer has. systemd does not restart it (exit "
        "status 2).",
        remedies=(
            "Correct extra_args ('vllm serve --help=all' of the release lists the options).",
            "Use the engine_version that the option was written for.",
        ),
        sources=("utils/argparse_utils.py", "vLLM 0.33: options that were removed"),
        sample="vllm serve: error: unrecognized arguments: --swap-space 4",
        near="usage: vllm serve [model_tag] [options]",
    ),
    Signature(
        id="disk_full",
        area=AREA,
        title="The disk is full",
        severity=FAIL,
        patterns=(r"No space left on device", r"Disk quota exceeded", r"not enough free disk space"),
        cause="A file could not be written.",
        remedies=(
            "See which file system it is (df -h; the models, /var/cache/vllm, /tmp, the journal).",
            "Remove models and releases that no instance uses: deploy.yml does at its end.",
            "Move model_hub_cache or engine_root to a larger disk.",
        ),
        sources=("errno 28",),
        sample="OSError: [Errno 28] No space left on device: '/var/cache/vllm/chat/vllm/torch_compile_cache'",
        near="UserWarning: Not enough free disk space to download the file. The expected file size is: 4976.70 MB.",
    ),
    Signature(
        id="not_writable",
        area=AREA,
        title="The service may not write or read a file",
        severity=FAIL,
        patterns=(
            r"(?:PermissionError|OSError): \[Errno (?:13|30)\] (?:Permission denied|Read-only file system):? "
            r"'?(?P<path>[^']*)'?",
        ),
        cause="{path} is closed to the service's user, or outside of what the unit may write (ProtectSystem=strict).",
        remedies=(
            "See what closes it: namei -l {path}; the unit runs as vllm.",
            "A model, a tokenizer or a template: let vllm read the file, and pass through the folders above it.",
            "A cache: leave it in /var/cache/vllm/<name>, where the unit puts HOME and XDG_CACHE_HOME; take other "
            "paths "
            "out of environment.",
        ),
        sources=("errno 13, 30",),
        sample="PermissionError: [Errno 13] Permission denied: '/srv/models/llama/config.json'",
        near="PermissionError: [Errno 1] Operation not permitted",
    ),
    Signature(
        id="release_closed",
        area=AREA,
        title="A file of the release is closed to the service",
        severity=FAIL,
        patterns=(
            r"(?:PermissionError|OSError): \[Errno 13\] Permission denied: '(?P<path>[^']*(?:/site-packages/|/releases/"
            r"|/instances/)(?![^']*/bin/)[^']*)'",
        ),
        cause="{path} belongs to the engine's release and cannot be read by the service's user: a release that was "
        "copied "
        "or changed by hand, or under a narrow umask.",
        remedies=(
            "Remove the release and run deploy.yml, which makes it anew with the right permissions.",
            "Or open it: chmod -R a+rX on the folder of the release.",
        ),
        sources=("errno 13",),
        sample="PermissionError: [Errno 13] Permission denied: "
        "'/opt/vllm/releases/0.33.0-cuda/lib/python3.12/site-packages/vllm/envs.py'",
        near="PermissionError: [Errno 13] Permission denied: '/srv/models/llama/config.json'",
        explains=("not_writable",),
    ),
    Signature(
        id="call_forbidden",
        area=AREA,
        title="A system call is forbidden to the engine",
        severity=FAIL,
        patterns=(
            r"\b(?P<call>pidfd_getfd|pidfd_open|process_vm_readv|process_vm_writev|ptrace|io_uring_setup|perf_event_open"
            r"|userfaultfd|set_mempolicy|mbind|move_pages|unshare|setns|shmget|shm_open|memfd_create|mlock2?|mlockall)\b"
            r".{0,120}(?:Operation not permitted|Permission denied|EPERM|EACCES|errno[ :=]*1\b|[Ee]rrno 13\b)",
            r"code=(?:killed|dumped), status=31/SYS",
            r"(?P<call>socket).{0,60}Address family not supported by protocol",
        ),
        cause="[[{call}||A system call]] was refused: the unit's own sandbox (SystemCallFilter=, "
        "RestrictAddressFamilies=) or "
        "kernel.yama.ptrace_scope does not allow it. Ranks that share GPU memory by file descriptors need pidfd_getfd.",
        remedies=(
            "Run deploy.yml: the unit that it writes allows pidfd_getfd between the processes of an engine.",
            "If it is still refused: sysctl kernel.yama.ptrace_scope=0, or CAP_SYS_PTRACE in a container.",
            "For another call add a drop-in: [Service] SystemCallFilter=<the call> (systemctl edit {unit}).",
            "Leave expandable_segments out of PYTORCH_CUDA_ALLOC_CONF, if it is set.",
        ),
        sources=("flashinfer-ai/flashinfer#2394", "vllm-project/vllm#53960", "pidfd_getfd(2)", "systemd.exec(5)"),
        sample="(EngineCore_DP0 pid=2944726) RuntimeError: pidfd_getfd(pidfd=185, fd=163) failed with errno 1: "
        "Operation "
        "not permitted. Permission denied. If running in a container, try adding --cap-add=SYS_PTRACE to your docker "
        "run "
        "command.",
        near="PermissionError: [Errno 13] Permission denied: '/srv/models/ptrace/config.json'",
    ),
    Signature(
        id="glibc_too_old",
        area=AREA,
        title="The distribution is older than the release",
        severity=FAIL,
        patterns=(
            r"version `(?P<what>(?:GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+)' not found(?: \(required by (?P<path>[^)]+)\))?",
        ),
        cause="The release was built for a newer system: {what} is not in this one's C or C++ library.",
        remedies=(
            "Serve from a newer distribution (ldd --version says the host's glibc), or in a container.",
            "Use an older engine_version, whose wheels ask for less.",
            "Take LD_LIBRARY_PATH out of environment, if it brings an older libstdc++ (conda does).",
        ),
        sources=("ld.so(8)", "PEP 600, manylinux"),
        sample="ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by "
        "/opt/vllm/releases/0.33.0-cuda/lib/python3.12/site-packages/vllm/_C.abi3.so)",
        near="ImportError: libgomp.so.1: cannot open shared object file: No such file or directory",
        explains=("library_missing",),
    ),
    Signature(
        id="driver_library_missing",
        area=AREA,
        title="The driver's library is missing",
        severity=FAIL,
        patterns=(
            r"lib(?:cuda|nvidia-ml)\.so\.1: cannot open shared object",
            r"NVMLError_LibraryNotFound|NVML Shared Library Not Found",
        ),
        cause="The libraries of the NVIDIA driver (libcuda.so.1, libnvidia-ml.so.1) are not where the loader looks: no "
        "driver is installed, or only its kernel module.",
        remedies=(
            "See nvidia-smi and ldconfig -p | grep libcuda; run ldconfig after an installation by .run file.",
            "Install the driver (role cuda, cuda_driver: nvidia), with the packages for computing.",
        ),
        sources=("ld.so(8)", "pynvml"),
        sample="ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
        near="ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
        explains=("library_missing", "device_unknown", "no_cuda_device"),
    ),
    Signature(
        id="library_missing",
        area=AREA,
        title="A library of the release is missing",
        severity=FAIL,
        patterns=(
            r"(?P<what>lib[\w.+-]+): cannot open shared object file",
            r"ModuleNotFoundError: No module named '(?P<what>[^']+)'",
            r"ImportError: (?P<what>.*undefined symbol.*)",
        ),
        cause="{what} cannot be loaded: the release is not whole, was changed by hand, or lacks a package of the "
        "system.",
        remedies=(
            "Run deploy.yml again: a release that is not whole is made anew.",
            "Install the package of the system that has the library (libnuma1, libgomp1).",
            "Take LD_LIBRARY_PATH and PYTHONPATH out of environment.",
        ),
        sources=("Python import", "ld.so(8)"),
        sample="ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
        near="WARNING 11-23 20:30:01 [import_utils.py:408] ImportError: libnvrtc.so.13: cannot open shared object "
        "file: "
        "No such file or directory",
    ),
    Signature(
        id="illegal_instruction",
        area=AREA,
        title="The processor lacks instructions that the engine uses",
        severity=FAIL,
        patterns=(r"code=(?:killed|dumped), status=4/ILL", r"Illegal instruction"),
        cause="The CPU build of vLLM needs AVX2 or AVX-512.",
        remedies=(
            "Serve from a newer processor.",
            "In a virtual machine pass the host's processor through (cpu: host).",
        ),
        sources=("vLLM docs, CPU installation",),
        sample="vllm@chat.service: Main process exited, code=dumped, status=4/ILL",
        near="vllm@chat.service: Main process exited, code=dumped, status=11/SEGV",
    ),
    Signature(
        id="too_many_files",
        area=AREA,
        title="Too many open files",
        severity=FAIL,
        # vLLM itself warns of it, in backticks
        patterns=(r"(?<!`)OSError: \[Errno 24\] Too many open files",),
        cause="Each connection is a file, and the limit is reached.",
        remedies=("See whether a drop-in lowers LimitNOFILE (systemctl cat); the unit allows 1048576.",),
        sources=("errno 24",),
        sample="OSError: [Errno 24] Too many open files",
        near="OSError: [Errno 23] Too many open files in system",
    ),
    Signature(
        id="credential_missing",
        area=AREA,
        title="The unit's credential cannot be read",
        severity=FAIL,
        patterns=(r"status=243/CREDENTIALS", r"Failed to set up credentials"),
        cause="The unit asks for the hub's token (LoadCredential=), and the file is gone or cannot be decrypted here.",
        remedies=(
            "Run deploy.yml with vllm_hf_token: it writes the token anew.",
            "A disk that was moved to another machine cannot be decrypted there: write the token anew.",
        ),
        sources=("systemd.exec(5)",),
        sample="vllm@chat.service: Failed at step CREDENTIALS spawning /opt/vllm/instances/chat/bin/vllm: No such file "
        "or "
        "directory\nvllm@chat.service: Main process exited, code=exited, status=243/CREDENTIALS",
        near="vllm@chat.service: Failed at step EXEC spawning /opt/vllm/instances/chat/bin/vllm: No such file or "
        "directory\n"
        "vllm@chat.service: Main process exited, code=exited, status=203/EXEC",
    ),
    Signature(
        id="release_missing",
        area=AREA,
        title="The engine's program is not there",
        severity=FAIL,
        patterns=(r"status=203/EXEC", r"Failed to locate executable (?P<path>\S+?):"),
        cause="[[{path}||The program]] does not exist: the link of the instance points to a release that was removed.",
        remedies=("Run deploy.yml again: it installs the release and sets the link.",),
        sources=("systemd.exec(5)",),
        sample="vllm@chat.service: Failed to locate executable /opt/vllm/instances/chat/bin/vllm: No such file or "
        "directory\n"
        "vllm@chat.service: Main process exited, code=exited, status=203/EXEC",
        near="vllm@chat.service: Failed at step CHDIR spawning /opt/vllm/instances/chat/bin/vllm: No such file or "
        "directory\n"
        "vllm@chat.service: Main process exited, code=exited, status=200/CHDIR",
    ),
    Signature(
        id="settings_missing",
        area=AREA,
        title="The instance has no settings",
        severity=FAIL,
        patterns=(
            r"Assertion failed for .*vLLM instance",
            r"Starting requested but asserts failed",
            r"Failed to load environment files",
            r"status=209/STDOUT",
        ),
        cause="/etc/vllm/<name>.yaml or its .env is gone.",
        remedies=(
            "Run deploy.yml again, which writes it.",
            "Or disable the unit, if the instance is not wanted any more.",
        ),
        sources=("vllm@.service, AssertPathExists=",),
        sample="vllm@chat.service: Starting requested but asserts failed.\n"
        "Assertion failed for vllm@chat.service - vLLM instance chat.",
        near="vLLM instance chat was skipped because of an unmet condition check "
        "(ConditionPathExists=/etc/vllm/chat.yaml).",
    ),
    Signature(
        id="stopped_hard",
        area=AREA,
        title="The engine did not end when it was told to",
        severity=WARN,
        patterns=(r"State 'stop-sig\w+' timed out\. Killing",),
        cause="It was killed after TimeoutStopSec, with requests that still ran.",
        remedies=(
            "Raise serve_drain_seconds, if requests take that long.",
            "Look for a rank that hangs: Xid in the kernel's log, GPUs at 100 %.",
        ),
        sources=("systemd.service(5)",),
        sample="vllm@chat.service: State 'stop-sigterm' timed out. Killing.",
        near="vllm@chat.service: start operation timed out. Terminating.",
    ),
    Signature(
        id="start_timed_out",
        area=AREA,
        title="What the unit waits for before its start did not come",
        severity=FAIL,
        patterns=(r"start(?P<step>-pre|-post)? operation timed out",),
        cause="The engine was not started: a command before it (start{step}) did not end in time. An engine that "
        "shares "
        "its GPU waits there until the other one serves.",
        remedies=(
            "See what it waits for: systemctl cat {unit}, ExecStartPre= in its drop-ins, and that instance's own "
            "fault.",
            "Raise serve_start_timeout, if the other engine only loads for longer.",
            "Disable the instance that is waited for, if it is not wanted any more, and run deploy.yml.",
        ),
        sources=("systemd.service(5), TimeoutStartSec=", "roles/serve/templates/start_after.conf.j2"),
        sample="vllm@chat.service: start-pre operation timed out. Terminating.",
        near="vllm@chat.service: State 'stop-sigterm' timed out. Killing.",
        explains=("stopped_hard",),
    ),
    Signature(
        id="unit_not_set_up",
        area=AREA,
        title="systemd could not set the unit up",
        severity=FAIL,
        patterns=(
            r"Failed at step (?P<step>\w+) spawning (?P<path>\S+?): (?P<what>.+)$",
            r"Main process exited, code=exited, status=2\d\d/(?P<step>[A-Z_]+)",
            r"Failed to set up (?P<step>mount namespacing|namespaces?|IPC namespac\w+): (?:(?P<path>/\S+): "
            r")?(?P<what>.+)$",
        ),
        cause="The engine was not started: step {step} of its unit failed[[ ({path}: {what})]].",
        remedies=(
            "USER or GROUP: the user of the service does not exist; NAMESPACE: a folder that a drop-in names is not "
            "there; "
            "CACHE_DIRECTORY and STATE_DIRECTORY: the disk is full or read-only.",
            "See the unit with its drop-ins: systemctl cat {unit}; then run deploy.yml.",
        ),
        generic=True,
        sources=("systemd.exec(5), process exit codes",),
        sample="vllm@chat.service: Failed at step USER spawning /opt/vllm/instances/chat/bin/vllm: No such process\n"
        "vllm@chat.service: Main process exited, code=exited, status=217/USER",
        near="vllm@chat.service: Main process exited, code=exited, status=1/FAILURE",
    ),
    Signature(
        id="release_not_executable",
        area=AREA,
        title="The engine's program may not be executed",
        severity=FAIL,
        patterns=(
            r"Failed at step EXEC spawning (?P<path>\S+): (?:Permission denied|Exec format error)",
            r"Unable to locate executable '?(?P<path>[^':]+)'?: Permission denied",
            r"Failed to (?:execute|locate executable) '?(?P<path>[^':]+)'?: (?:Permission denied|Exec format error)",
        ),
        cause="{path} is there and cannot be run: its file system is mounted noexec, it lost its run bit, or it is of "
        "another processor.",
        remedies=(
            "See it: findmnt -T {path} -o TARGET,OPTIONS; ls -lL {path}.",
            "Mount the file system without noexec, or move engine_root, and run deploy.yml.",
            "Remove the release and run deploy.yml, which makes it anew.",
        ),
        sources=("systemd.exec(5), 203/EXEC",),
        sample="vllm@chat.service: Failed at step EXEC spawning /opt/vllm/instances/chat/bin/vllm: Permission denied",
        near="vllm@chat.service: Failed at step EXEC spawning /opt/vllm/instances/chat/bin/vllm: No such file or "
        "directory",
        explains=("release_missing",),
    ),
    Signature(
        id="too_many_processes",
        area=AREA,
        title="No further process or thread may be started",
        severity=FAIL,
        patterns=(
            r"can't start new thread",
            r"(?:fork|pthread_create|clone)\b.{0,60}Resource temporarily unavailable",
            r"Resource temporarily unavailable.{0,60}(?:fork|pthread_create|thread)",
        ),
        cause="The limit of processes and threads is reached: TasksMax of the unit or of its slice, or the kernel's "
        "pid_max.",
        remedies=(
            "See systemctl show {unit} -p TasksMax -p TasksCurrent, and the limits of system.slice.",
            "Set OMP_NUM_THREADS: '1' in environment on hosts with very many cores.",
        ),
        sources=("errno 11", "systemd.resource-control(5), TasksMax="),
        sample="RuntimeError: can't start new thread",
        near="BlockingIOError: [Errno 11] Resource temporarily unavailable",
    ),
    Signature(
        id="setting_refused",
        area=AREA,
        title="vLLM refuses a setting",
        severity=FAIL,
        patterns=(r"^.{0,300}?(?:Value error|Assertion failed), (?P<what>(?:(?! \[type=).){1,400})",),
        cause="{what}",
        remedies=(
            "Correct the setting that the line names, and run deploy.yml again; plan.yml checks most of them before.",
        ),
        generic=True,
        sources=("pydantic validators of vllm/config",),
        sample="(APIServer pid=801)   Value error, Expert parallelism requires a MoE model. [type=value_error, "
        "input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]",
        near="pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "  Input should be a valid integer [type=int_parsing, input_value='x', input_type=str]",
        explains=("start_limit_hit",),
    ),
    Signature(
        id="worker_died",
        area=AREA,
        title="A rank's process ended",
        severity=FAIL,
        patterns=(r"Worker proc (?P<rank>\S+) died unexpectedly \(exit code: (?P<code>-?\d+)\)",),
        cause="{rank} ended with {code} without a word: killed (-9: by the kernel or a person), or it crashed (-11).",
        remedies=(
            "Look at the kernel's log at that time: out of memory, Xid, segfault.",
            "Restart the instance; if it comes again, try another engine_version.",
        ),
        generic=True,
        sources=("v1/executor/multiproc_executor.py:316",),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [multiproc_executor.py:316] Worker proc VllmWorker-1 died "
        "unexpectedly (exit code: -9), shutting down executor.",
        near="(Worker_TP1 pid=815) INFO 11-23 20:31:07 [multiproc_executor.py:558] Parent process exited, terminating "
        "worker",
        explains=("engine_died_serving", "engine_process_died"),
    ),
    Signature(
        id="engine_process_died",
        area=AREA,
        title="The engine's process ended",
        severity=FAIL,
        patterns=(
            r"Engine core proc (?P<name>\S+) died unexpectedly",
            r"(?:Process|process) (?P<name>\S+) .*died unexpectedly",
        ),
        cause="{name} ended without a word: killed, or it crashed.",
        remedies=(
            "Look at the kernel's log at that time: out of memory, Xid, segfault.",
            "See the journal of the unit before that line for an exception.",
        ),
        generic=True,
        sources=("v1/engine/core_client.py",),
        sample="(APIServer pid=801) ERROR 11-23 20:31:07 [core_client.py:605] Engine core proc EngineCore died "
        "unexpectedly, "
        "shutting down client.",
        near="(APIServer pid=801) RuntimeError: Engine core initialization failed. See root cause above. Failed core "
        "proc(s): {}",
        explains=("engine_died_serving",),
    ),
    Signature(
        id="engine_died_serving",
        area=AREA,
        title="The engine died while it computed a request",
        severity=FAIL,
        patterns=(r"EngineCore encountered a fatal error", r"EngineDeadError"),
        cause="A step failed, and the engine ended itself. /health had said that it was well: it computes nothing.",
        remedies=(
            "Read the exception above that line (evidence), and look for it among vLLM's issues.",
            "Pipeline parallelism over CPU ranks does this on its first request: use tensor_parallel_size.",
            "Try enforce_eager: true, another engine_version, or another layout.",
        ),
        generic=True,
        sources=("v1/engine/core.py:1512", "vllm-project/vllm#48966"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1512] EngineCore encountered a fatal error.\n"
        "(APIServer pid=801) vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack "
        "trace "
        "(above) for the root cause.",
        near="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:866] EngineCore failed to start.",
    ),
    Signature(
        id="killed",
        area=AREA,
        title="The engine was killed",
        severity=FAIL,
        patterns=(r"code=(?:killed|dumped), status=(?P<signal>\d+/\w+)",),
        cause="Signal {signal} ended the main process; 9/KILL comes from the kernel (memory) or a person, 11/SEGV is a "
        "crash.",
        remedies=(
            "Look at the kernel's log at that time.",
            "See who may have killed it (journalctl, sudo's log).",
            "Start it: systemctl reset-failed and start, or run deploy.yml.",
        ),
        generic=True,
        sources=("systemd.service(5)",),
        sample="vllm@chat.service: Main process exited, code=killed, status=9/KILL",
        near="vllm@chat.service: Main process exited, code=exited, status=1/FAILURE",
    ),
    Signature(
        id="start_limit_hit",
        area=AREA,
        title="systemd gave up restarting",
        severity=FAIL,
        patterns=(r"Start request repeated too quickly", r"start-limit-hit"),
        cause="The unit died again and again within a short time, and is not restarted any more.",
        remedies=(
            "Correct the fault that its journal tells of (the other lines of this report).",
            "Run deploy.yml: it forgets the failures and starts the unit.",
        ),
        generic=True,
        sources=("systemd.unit(5), StartLimitBurst=",),
        sample="vllm@chat.service: Start request repeated too quickly.",
        near="vllm@chat.service: Scheduled restart job, restart counter is at 3.",
    ),
)
