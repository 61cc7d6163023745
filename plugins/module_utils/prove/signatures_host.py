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
            r"EADDRINUSE",
        ),
        cause="Another program listens on port {port}.",
        remedies=(
            "See who it is (ss -ltnp) and stop it: often a second instance, or an engine that was started by hand.",
            "Give the instance another port; for ranks that meet, another master_port.",
        ),
        sources=("entrypoints/launchers/launcher.py:358",),
        sample="(APIServer pid=801) OSError: [Errno 98] Address already in use",
    ),
    Signature(
        id="address_not_here",
        area=AREA,
        title="The address is not one of the host",
        severity=FAIL,
        patterns=(
            r"Cannot assign requested address",
            r"(?<!ConnectError: )\[Errno -[23]\] (?:Name or service|Temporary failure)",
        ),
        cause="host names an address that no interface of this machine has.",
        remedies=("Correct host (ip -brief address lists them), or write 0.0.0.0 behind a firewall.",),
        sources=("errno 99",),
        sample="(APIServer pid=801) OSError: [Errno 99] Cannot assign requested address",
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
    ),
    Signature(
        id="no_compiler",
        area=AREA,
        title="There is no C compiler",
        severity=FAIL,
        patterns=(
            r"Failed to find C compiler",
            r"InvalidCxxCompiler",
            r"No working C\+\+ compiler found",
            r"fatal error: Python\.h: No such file or directory",
            r"(?P<what>gcc|g\+\+|cc): (?:not found|No such file)",
        ),
        cause="Triton and Inductor compile small programs when the engine starts, and find no compiler or no headers.",
        remedies=(
            "Install gcc, g++ and the headers of the release's Python (the role engine does).",
            "Set enforce_eager: true, if it cannot be installed; Triton still needs one on GPUs.",
        ),
        sources=("triton/runtime/build.py", "torch/_inductor/exc.py:82", "vllm-project/vllm#2997"),
        sample="RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set "
        "triton.knobs.build.impl.",
    ),
    Signature(
        id="no_nvcc",
        area=AREA,
        title="There is no CUDA compiler",
        severity=FAIL,
        patterns=(
            r"Could not find nvcc",
            r"nvcc: (?:command )?not found",
            r"CUDA_HOME environment variable is not set",
        ),
        cause="A kernel that is not prebuilt has to be compiled, and there is no CUDA toolkit.",
        remedies=(
            "Run 'vllm download-kernels' with the release's Python.",
            "Install the toolkit of the driver's CUDA (cuda_toolkit), or choose another attention-backend in "
            "extra_args.",
        ),
        sources=("flashinfer/jit", "utils/flashinfer.py:143"),
        sample="RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist",
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
            "Let the user vllm read the model: the folders above it too.",
            "Let caches lie in /var/cache/vllm/<name>, where the unit puts HOME and XDG_CACHE_HOME; take other paths "
            "out of "
            "environment.",
        ),
        sources=("errno 13, 30",),
        sample="PermissionError: [Errno 13] Permission denied: '/srv/models/llama/config.json'",
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
    ),
    Signature(
        id="release_missing",
        area=AREA,
        title="The engine's program is not there",
        severity=FAIL,
        patterns=(r"status=203/EXEC", r"Failed to locate executable (?P<path>\S+?):"),
        cause="{path} does not exist: the link of the instance points to a release that was removed.",
        remedies=("Run deploy.yml again: it installs the release and sets the link.",),
        sources=("systemd.exec(5)",),
        sample="vllm@chat.service: Failed to locate executable /opt/vllm/instances/chat/bin/vllm: No such file or "
        "directory\n"
        "vllm@chat.service: Main process exited, code=exited, status=203/EXEC",
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
    ),
    Signature(
        id="stopped_hard",
        area=AREA,
        title="The engine did not end when it was told to",
        severity=WARN,
        patterns=(r"State 'stop-sig\w+' timed out\. Killing", r"Failed with result 'timeout'"),
        cause="It was killed after TimeoutStopSec, with requests that still ran.",
        remedies=(
            "Raise serve_drain_seconds, if requests take that long.",
            "Look for a rank that hangs: Xid in the kernel's log, GPUs at 100 %.",
        ),
        sources=("systemd.service(5)",),
        sample="vllm@chat.service: State 'stop-sigterm' timed out. Killing.",
    ),
    Signature(
        id="setting_refused",
        area=AREA,
        title="vLLM refuses a setting",
        severity=FAIL,
        patterns=(r"^\S* ?.*?(?:Value error|Assertion failed), (?P<what>.+?)(?: \[type=.*)?$",),
        cause="{what}",
        remedies=(
            "Correct the setting that the line names, and run deploy.yml again; plan.yml checks most of them before.",
        ),
        generic=True,
        sources=("pydantic validators of vllm/config",),
        sample="(APIServer pid=801)   Value error, Expert parallelism requires a MoE model. [type=value_error, "
        "input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]",
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
    ),
)
