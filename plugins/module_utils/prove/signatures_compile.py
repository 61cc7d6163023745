# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of faults: kernels compiled while an engine starts (Triton, Inductor, FlashInfer, DeepGEMM). Data.

FlashInfer's sampler is asked whatever the attention backend is: VLLM_USE_FLASHINFER_SAMPLER (vLLM 0.33, envs.py).
"""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import FAIL, Signature

AREA = "Compilation at run time"
SAMPLER = "Set VLLM_USE_FLASHINFER_SAMPLER: '0' in environment, if it is FlashInfer's sampler that is compiled."
DEPLOY_PATH = (
    "Run deploy.yml: the unit that it writes has the release's bin, where ninja lies, and the toolkit's on its PATH."
)
TOOLKIT = "Install the toolkit of the engine's CUDA (role cuda, cuda_toolkit), and run deploy.yml again."
SIGNATURES = (
    Signature(
        id="ninja_missing",
        area=AREA,
        title="ninja is not on the PATH of the service",
        severity=FAIL,
        patterns=(
            r"No such file or directory: '(?:[^']*/)?ninja'",
            r"Ninja is required to load C\+\+ extensions",
            r"\bninja: (?:command )?not found",
            r"[Nn]inja (?:is not installed|executable not found|build tool not found)",
        ),
        cause="A kernel has to be compiled, and the program that runs the compilers, ninja, is not found. It is part "
        "of "
        "the release (its bin), and the service's PATH does not hold that folder.",
        remedies=(
            DEPLOY_PATH,
            "Or set PATH in environment to the release's bin, then /usr/local/bin, /usr/bin and /bin.",
            SAMPLER,
        ),
        sources=("flashinfer-ai/flashinfer#3386", "LMCache/LMCache#1925", "kserve/kserve#4565"),
        sample="(Worker_TP1 pid=815) ERROR 11-23 20:31:07 [multiproc_executor.py:871] FileNotFoundError: [Errno 2] No "
        "such file or directory: 'ninja'",
        near="ninja: no work to do.\nFileNotFoundError: [Errno 2] No such file or directory: '/srv/m/ninja.json'",
        explains=("ninja_failed",),
    ),
    Signature(
        id="tool_not_executable",
        area=AREA,
        title="A program of the release cannot be executed",
        severity=FAIL,
        patterns=(
            r"(?:PermissionError: \[Errno 13\] Permission denied|\[Errno 13\] Permission denied): '(?P<path>[^']*/"
            r"(?:bin/[\w.+-]+|ptxas[\w-]*|nvcc|ninja|cicc|cuobjdump|nvdisasm))'",
            r"^(?:/bin/)?(?:sh|bash): (?:\d+: |line \d+: )?(?P<path>/\S*/(?:ptxas[\w-]*|nvcc|ninja|cicc|gcc|c\+\+)): "
            r"Permission denied",
            r"OSError: \[Errno 8\] Exec format error: '(?P<path>[^']+)'",
        ),
        cause="{path} has lost its permission to run, or lies on a file system that is mounted noexec. A copy that "
        "does "
        "not keep permissions (unzip, some object stores) does that.",
        remedies=(
            "See which it is: ls -l {path}; findmnt -T {path} -o TARGET,OPTIONS.",
            "Give the bit back: chmod a+x {path}; or remove the release and run deploy.yml, which makes it anew.",
            "Mount the file system without noexec, or move engine_root to another one.",
        ),
        sources=("triton/backends/nvidia/compiler.py", "errno 13, 8"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] PermissionError: [Errno 13] Permission "
        "denied: "
        "'/opt/vllm/releases/0.33.0-cuda/lib/python3.12/site-packages/triton/backends/nvidia/bin/ptxas'",
        near="PermissionError: [Errno 13] Permission denied: '/srv/models/llama/config.json'",
        explains=("not_writable", "release_closed", "compile_failed", "ninja_failed"),
    ),
    Signature(
        id="noexec",
        area=AREA,
        title="Compiled code lies on a file system that does not allow running it",
        severity=FAIL,
        patterns=(
            r"(?<!\S)(?P<path>/\S+?\.so[\w.]*): failed to map segment from shared object",
            r"failed to map segment from shared object",
        ),
        cause="[[{path}||A file]] was compiled, and the file system that it lies on is mounted noexec.",
        remedies=(
            "See it: findmnt -T [[{path}||/var/cache]] -o TARGET,OPTIONS; mount it without noexec (/var/cache, "
            "/var, /tmp).",
            "Or put the caches elsewhere: VLLM_CACHE_ROOT, TRITON_CACHE_DIR and TORCHINDUCTOR_CACHE_DIR in "
            "environment.",
        ),
        sources=("mount(8), noexec", "ld.so(8)"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] ImportError: "
        "/var/cache/vllm/chat/triton/cache/"
        "AB12/__triton_launcher.cpython-312-x86_64-linux-gnu.so: failed to map segment from shared object",
        near="ImportError: libnuma.so.1: cannot open shared object file: No such file or directory",
        explains=("library_missing",),
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
            r"(?P<what>gcc|g\+\+|c\+\+|cc): (?:not found|command not found|No such file)",
            r"No such file or directory: '(?:[^']*/)?(?P<what>gcc|g\+\+|c\+\+|cc|clang|clang\+\+)'",
        ),
        cause="Triton and Inductor compile small programs when the engine starts, and find no compiler.",
        remedies=(
            "Install gcc and g++ (the role engine does), and run deploy.yml.",
            "Set enforce-eager: true in extra_args, if none may be installed; Triton still needs one on GPUs.",
        ),
        sources=("triton/runtime/build.py", "torch/_inductor/exc.py:82", "vllm-project/vllm#2997"),
        sample="RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set "
        "triton.knobs.build.impl.",
        near="gcc: note: options were passed by nvcc",
        explains=("compile_failed", "ninja_failed"),
    ),
    Signature(
        id="python_headers_missing",
        area=AREA,
        title="The headers of the release's Python are missing",
        severity=FAIL,
        patterns=(r"fatal error: (?P<what>Python\.h|pyconfig\.h): No such file",),
        cause="Triton compiles a launcher against {what}, and the development package of the release's Python is not "
        "there; that of another Python does not help.",
        remedies=(
            "Install the headers of exactly that Python (engine_python 3.12: python3.12-dev, on RHEL "
            "python3.12-devel).",
            "Run deploy.yml again: the role engine installs those of the distribution's own Python.",
        ),
        sources=("triton/runtime/build.py", "vllm-project/vllm#2997"),
        sample="/var/cache/vllm/chat/tmpab12cd34/main.c:5:10: fatal error: Python.h: No such file or directory",
        near="/var/cache/x/main.c:5:10: fatal error: cuda_runtime.h: No such file or directory",
        explains=("compile_failed", "ninja_failed"),
    ),
    Signature(
        id="cuda_headers_missing",
        area=AREA,
        title="nvcc does not find the headers of CUDA",
        severity=FAIL,
        patterns=(
            r"fatal error: (?P<what>(?:cuda\w*|cublas\w*|curand\w*|cusparse\w*|cusolver\w*|nvrtc|nvml|cuComplex"
            r"|device_launch_parameters|library_types|vector_types|nvToolsExt)\.h|crt/\S+|nv/target|cuda/\S+|cub/\S+"
            r"|thrust/\S+): No such file",
        ),
        cause="{what} is part of the CUDA toolkit and was not found: nvcc is only a link to it on the PATH, CUDA_HOME "
        "is "
        "not set, or the toolkit is not whole.",
        remedies=(
            "Set CUDA_HOME: /usr/local/cuda in environment, where the whole toolkit lies.",
            TOOLKIT,
            SAMPLER,
        ),
        sources=("flashinfer/jit/cpp_ext.py", "CUDA installation guide"),
        sample="/opt/vllm/releases/0.33.0-cuda/lib/python3.12/site-packages/flashinfer/data/include/flashinfer/"
        "sampling.cuh:20:10: fatal error: cuda_runtime.h: No such file or directory",
        near="main.c:5:10: fatal error: Python.h: No such file or directory",
        explains=("compile_failed", "ninja_failed"),
    ),
    Signature(
        id="deep_gemm_no_nvcc",
        area=AREA,
        title="DeepGEMM finds no nvcc",
        severity=FAIL,
        patterns=(
            r"(?:is_executable|exists)\(\s*(?:this->)?nvcc\w*",
            r"[Dd]eep_?[Gg][Ee][Mm][Mm].{0,80}(?:nvcc|CUDA_HOME|cuda_home).{0,60}(?:not found|not set|None|missing)",
        ),
        cause="DeepGEMM compiles its kernels with nvcc at their first use, and there is none.",
        remedies=(
            TOOLKIT,
            "Set VLLM_USE_DEEP_GEMM: '0' in environment: vLLM then takes other FP8 kernels.",
        ),
        sources=("DeepGEMM csrc/jit/compiler.hpp", "vLLM envs.py, VLLM_USE_DEEP_GEMM"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] RuntimeError: Assertion error "
        "(csrc/apis/../jit/compiler.hpp:101): is_executable(nvcc_path)",
        near="AssertionError: exists(config)",
        explains=("no_nvcc",),
    ),
    Signature(
        id="no_nvcc",
        area=AREA,
        title="There is no CUDA compiler",
        severity=FAIL,
        patterns=(
            r"Could not find nvcc",
            r"\bnvcc: (?:command )?not found",
            r"No such file or directory: '(?:[^']*/)?nvcc'",
            r"CUDA_HOME environment variable is not set",
            r"CUDA_HOME is not set",
        ),
        cause="A kernel that is not prebuilt has to be compiled, and there is no nvcc on the PATH nor in CUDA_HOME.",
        remedies=(
            TOOLKIT,
            SAMPLER,
            "Set VLLM_USE_DEEP_GEMM: '0' in environment, if it is DeepGEMM that asks for it.",
            "Run deploy.yml with engine_download_kernels: true, which brings kernels that are built already.",
        ),
        sources=("flashinfer/jit", "utils/flashinfer.py:143", "vllm-project/vllm#19824"),
        sample="RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist",
        near="nvcc fatal   : Unsupported gpu architecture 'compute_120a'",
        explains=("compile_failed", "ninja_failed"),
    ),
    Signature(
        id="toolkit_too_old",
        area=AREA,
        title="The compiler is older than the GPU",
        severity=FAIL,
        patterns=(
            r"ptxas fatal\s*: Value '(?P<arch>\w+)' is not defined for option 'gpu-name'",
            r"nvcc fatal\s*: (?:Unsupported gpu architecture|Value) '(?P<arch>[\w,=]+)'",
            r"'(?P<arch>sm_\w+)' is not a recognized processor",
            r"ptxas .*(?:error|fatal)\s*: Unsupported \.version (?P<arch>[\d.]+)",
            r"SM (?P<arch>\d+\.\w+) (?:is not supported|requires) .*CUDA",
        ),
        cause="The compiler does not know {arch}: the ptxas that Triton brings, or the toolkit of the host, was made "
        "before this GPU.",
        remedies=(
            "Let Triton use a newer one: TRITON_PTXAS_PATH: /usr/local/cuda/bin/ptxas in environment, with CUDA 13 or "
            "newer there (role cuda, cuda_toolkit).",
            "Use a newer engine_version, whose Triton knows the GPU.",
            "Until then set enforce-eager: true in extra_args, which compiles less.",
        ),
        sources=("triton-lang/triton#8539", "vllm-project/vllm#29469", "gpustack/gpustack#4372"),
        sample="(EngineCore pid=812) ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'",
        near="ptxas info    : Compiling entry function 'k' for 'sm_90a'",
        explains=("compile_failed", "ninja_failed"),
    ),
    Signature(
        id="toolkit_does_not_fit",
        area=AREA,
        title="The CUDA toolkit does not fit the code that is compiled",
        severity=FAIL,
        patterns=(
            r"(?:error:|error :|does not name a type|undefined|not declared).*\b(?P<what>cudaLibrary_t|CUlibrary"
            r"|cudaKernel_t|__nv_fp4\w*|__nv_fp8x4_e8m0|cudaLaunchAttribute\w+|CUtensorMap\w*)\b",
            r"\b(?P<what>cudaLibrary_t|cudaKernel_t|CUtensorMap\w*|__nv_fp4\w*)\b.*(?:undefined|not declared"
            r"|does not name a type|has not been declared)",
            r"fatal error: (?P<what>cuda_fp4\.h|cuda_fp8\.h|cudaTypedefs\.h): No such file",
        ),
        cause="{what} is not in the headers of the toolkit: it is older than the CUDA that the release was built with, "
        "or nvcc and headers are of two toolkits.",
        remedies=(
            "Install the toolkit of the engine's CUDA (vLLM 0.33: CUDA 13) and name it: CUDA_HOME in environment.",
            SAMPLER,
            "Set VLLM_USE_DEEP_GEMM: '0' in environment, if the file is one of DeepGEMM.",
        ),
        sources=("CUDA runtime API, library management", "flashinfer/data/include"),
        sample='/usr/local/cuda/include/x.h(88): error: identifier "cudaLibrary_t" is undefined',
        near='/x/y.cu(3): error: identifier "foo" is undefined',
        explains=("compile_failed", "ninja_failed", "cuda_headers_missing"),
    ),
    Signature(
        id="host_compiler_refused",
        area=AREA,
        title="nvcc refuses the C++ compiler of the host",
        severity=FAIL,
        patterns=(
            r"error: -- unsupported (?:GNU|clang) version! (?P<what>.+?are not supported)?",
            r"#error (?:-- )?(?:unsupported GNU version|You need C\+\+17|C\+\+17 or later)",
            r"You need C\+\+17 to compile PyTorch",
        ),
        cause="The toolkit allows other versions of gcc than the one that is installed.",
        remedies=(
            "Install a gcc that the toolkit knows and name it: NVCC_PREPEND_FLAGS: '-ccbin /usr/bin/g++-13' in "
            "environment.",
            "Or install a newer toolkit (role cuda, cuda_toolkit).",
        ),
        sources=("CUDA crt/host_config.h",),
        sample="/usr/local/cuda/include/crt/host_config.h:143:2: error: #error -- unsupported GNU version! gcc "
        "versions "
        "later than 13 are not supported!",
        near="nvcc warning : The -std=c++17 flag is not supported with the configured host compiler.",
        explains=("compile_failed", "ninja_failed"),
    ),
    Signature(
        id="libcuda_not_linked",
        area=AREA,
        title="The linker does not find libcuda",
        severity=FAIL,
        patterns=(
            r"cannot find -lcuda(?![\w-])",
            r"libcuda\.so cannot (?:be )?found",
            r"libcuda\.so not found",
        ),
        cause="Triton links its launcher against libcuda.so, and the driver has put libcuda.so.1 there only, or in a "
        "folder that the linker does not know.",
        remedies=(
            "See where it is: ldconfig -p | grep libcuda; run ldconfig after installing the driver.",
            "Install the package of the driver that has the link libcuda.so (libnvidia-compute, nvidia-driver-cuda), "
            "or "
            "make it: ln -s libcuda.so.1 libcuda.so in its folder.",
            "Or name the folder: TRITON_LIBCUDA_PATH (and LIBRARY_PATH) in environment.",
        ),
        sources=("vllm-project/vllm#16984", "vllm-project/vllm#11643", "triton/backends/nvidia/driver.py"),
        sample="/usr/bin/ld: cannot find -lcuda: No such file or directory",
        near="/usr/bin/ld: cannot find -lcudart: No such file or directory",
        explains=("compile_failed", "ninja_failed"),
    ),
    Signature(
        id="linked_library_missing",
        area=AREA,
        title="The linker does not find a library",
        severity=FAIL,
        patterns=(r"cannot find -l(?P<what>(?!cuda(?![\w-]))[\w.+-]+)",),
        cause="lib{what} is not where the linker looks. Libraries of CUDA lie in lib64 of CUDA_HOME.",
        remedies=(
            "Set CUDA_HOME: /usr/local/cuda in environment, if nvcc is only a link to another place.",
            TOOLKIT,
            "Install the development package of the library, if it is none of CUDA.",
            SAMPLER,
        ),
        sources=("ld(1)", "flashinfer/jit/cpp_ext.py"),
        sample="/usr/bin/ld: cannot find -lcudart: No such file or directory",
        near="/usr/bin/ld: warning: libm.so.6, needed by x, not found",
        explains=("compile_failed", "ninja_failed"),
    ),
    Signature(
        id="compiler_killed",
        area=AREA,
        title="A compiler was killed, mostly for want of memory",
        severity=FAIL,
        patterns=(
            r"fatal error: Killed signal terminated program (?P<what>\S+)",
            r"'?(?P<what>cicc|cudafe\+\+|ptxas|cc1plus|nvcc)'? died due to signal (?:9|11)",
            r"internal compiler error: Killed \(program (?P<what>\w+)\)",
        ),
        cause="{what} was killed while it compiled a kernel: each of the compilers that run side by side takes "
        "gigabytes.",
        remedies=(
            "Set MAX_JOBS: '2' in environment.",
            "See the kernel's log for 'Out of memory' and MemoryMax of the unit.",
        ),
        sources=("torch/utils/cpp_extension.py, MAX_JOBS",),
        sample="c++: fatal error: Killed signal terminated program cc1plus",
        near="c++: fatal error: no input files",
        explains=("compile_failed", "ninja_failed"),
    ),
    Signature(
        id="compile_cache_damaged",
        area=AREA,
        title="The cache of compiled code is damaged",
        severity=FAIL,
        patterns=(
            r"(?<!\S)(?P<path>/(?=\S*(?:cache|triton|torchinductor|flashinfer))\S*\.(?:so|cubin)[\w.]*): "
            r"(?:file too short|invalid ELF header|cannot read file data|undefined symbol)",
            r"(?:JSONDecodeError|UnpicklingError|EOFError|BadZipFile|FileNotFoundError|OSError)(?!: \[Errno "
            r"(?:13|28|30)\]).*"
            r"(?<=[\s'])(?P<path>/(?=[^\s']*(?:torch_compile_cache|torch_aot_compile|torchinductor|\.triton|triton/cache"
            r"|inductor_cache))[^\s']*)",
            r"(?:Failed to load|Error loading|corrupt|invalid).{0,60}(?:compil\w{1,8} (?:cache|artifact)|cubin"
            r"|torch_compile_cache|AOT artifact)",
        ),
        cause="A file of the cache cannot be read[[ ({path})]]: an engine that was killed while it wrote, a full "
        "disk, or "
        "a cache that two users share.",
        remedies=(
            "Stop the instance, remove its cache (/var/cache/vllm/{instance}), and start it: it compiles anew.",
            "See whether the disk is full or has errors.",
        ),
        sources=("vllm/compilation/backends.py", "triton/runtime/cache.py"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] ImportError: "
        "/var/cache/vllm/chat/triton/cache/"
        "AB12/__triton_launcher.cpython-312-x86_64-linux-gnu.so: file too short",
        near="OSError: [Errno 28] No space left on device: '/var/cache/vllm/chat/vllm/torch_compile_cache'",
        explains=("library_missing", "model_files_missing"),
    ),
    Signature(
        id="kernel_too_large",
        area=AREA,
        title="A kernel needs more shared memory than the GPU has",
        severity=FAIL,
        patterns=(
            r"OutOfResources: out of resources?: (?P<what>[\w ]+), Required: (?P<wanted>\d+), Hardware limit: "
            r"(?P<limit>\d+)",
        ),
        cause="A Triton kernel asks for {wanted} bytes of {what} on each processor of the GPU, which has {limit}: it "
        "was "
        "tuned for a larger GPU.",
        remedies=(
            "Choose another attention-backend in extra_args (FLASHINFER, FLASH_ATTN), or leave it to vLLM.",
            "Use another engine_version, or another quantization of the model.",
        ),
        sources=("triton/runtime/errors.py",),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] triton.runtime.errors.OutOfResources: out of "
        "resource: shared memory, Required: 131072, Hardware limit: 101376. Reducing block sizes or `num_stages` may "
        "help.",
        near="torch.OutOfMemoryError: CUDA out of memory.",
        explains=("compile_failed",),
    ),
    Signature(
        id="ninja_failed",
        area=AREA,
        title="A kernel could not be compiled",
        severity=FAIL,
        patterns=(r"Ninja build failed", r"Error building extension '(?P<what>[^']+)'"),
        cause="FlashInfer or torch compiled a kernel and the compiler failed; the first line with 'error' below says "
        "why.",
        remedies=(
            "Read that line: a missing file means an incomplete toolkit (CUDA_HOME), an unknown architecture one that "
            "is older than the GPU.",
            SAMPLER,
            "Choose another attention-backend in extra_args.",
        ),
        generic=True,
        sources=("flashinfer/jit/cpp_ext.py", "torch/utils/cpp_extension.py"),
        sample="RuntimeError: Ninja build failed. Ninja output:",
        near="ninja: Entering directory `/var/cache/vllm/chat'",
        explains=("compile_failed",),
    ),
    Signature(
        id="compile_failed",
        area=AREA,
        title="torch.compile or Triton could not compile the model",
        severity=FAIL,
        patterns=(
            r"torch\._inductor\.exc\.\w+: (?P<what>.+)$",
            r"InductorError: (?P<what>.+)$",
            r"BackendCompilerFailed: (?P<what>.+)$",
            r"PTXASError: (?P<what>.+)$",
            r"CalledProcessError: Command '?\[.*(?:gcc|g\+\+|cc|clang|nvcc|ptxas)\b.*returned non-zero exit status",
        ),
        cause="A kernel of the model could not be compiled; the first line with 'error' or 'fatal' says why.",
        remedies=(
            "Read that line: a missing header or library is one of the host's packages.",
            "Set enforce-eager: true in extra_args, to see whether the model runs without torch.compile.",
            "Remove the cache of the instance (/var/cache/vllm/{instance}) and start it, or use another "
            "engine_version.",
        ),
        generic=True,
        sources=("torch/_inductor/exc.py", "triton/backends/nvidia/compiler.py"),
        sample="(EngineCore pid=812) ERROR 11-23 20:31:07 [core.py:1123] torch._inductor.exc.InductorError: "
        "RuntimeError: Internal Triton PTX codegen error",
        near="torch._dynamo.exc.Unsupported: call_function",
    ),
)
