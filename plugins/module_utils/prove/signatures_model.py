# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures of faults: the hub, the model's files, its tokenizer. Data; vLLM's lines are those of 0.33."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.signature import FAIL, WARN, Signature

AREA = "Model"
SIGNATURES = (
    Signature(
        id="token_without_gated",
        area=AREA,
        title="The token may not read gated models",
        severity=FAIL,
        patterns=(r"Please enable access to public gated repositories in your fine-grained token settings",),
        cause="The token is valid, and the licence may be accepted, but this fine-grained token lacks the permission "
        "for "
        "gated repositories.",
        remedies=(
            "Enable 'Read access to contents of all public gated repos you can access' on the token.",
            "Or make a token of type read, set it as vllm_hf_token, and run deploy.yml again.",
        ),
        sources=("google/gemma-3-27b-it, vLLM 0.19",),
        sample="huggingface_hub.errors.HfHubHTTPError: 403 Forbidden: Please enable access to public gated "
        "repositories in "
        "your fine-grained token settings to view this repository.",
        near="huggingface_hub.errors.HfHubHTTPError: 403 Forbidden: None.",
        explains=("gated_model", "hub_refuses"),
    ),
    Signature(
        id="gated_model",
        area=AREA,
        title="The model is gated",
        severity=FAIL,
        patterns=(
            r"GatedRepoError",
            r"Cannot access gated repo for url (?P<url>\S+)",
            r"You are trying to access a gated repo",
            r"Access to model (?P<model>\S+) is restricted",
            r"401 Client Error",
            r"403 Client Error",
        ),
        cause="The hub gives the model only to accounts that accepted its licence, and to requests with their token.",
        remedies=(
            "Accept the licence of the model on its page of the hub with the account of the token.",
            "Set vllm_hf_token (or HF_TOKEN of the control node) to a token of that account, and run deploy.yml again.",
            "If access was asked for, wait until the owner grants it.",
        ),
        sources=("huggingface/inference-benchmarker#12", "vllm-project/vllm#8331", "McGill-NLP/llm2vec#36"),
        sample="huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-66e0f1a2)\n"
        "Cannot access gated repo for url "
        "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct/resolve/main/config.json.\n"
        "Access to model meta-llama/Llama-3.1-8B-Instruct is restricted. You must have access to it and be "
        "authenticated "
        "to access it. Please log in.",
        near="huggingface_hub.errors.HfHubHTTPError: 404 Client Error. (Request ID: Root=1-66e0f1a2)",
        explains=("model_not_found", "hub_refuses", "model_files_missing"),
    ),
    Signature(
        id="model_not_found",
        area=AREA,
        title="The hub has no such model",
        severity=FAIL,
        patterns=(
            r"RepositoryNotFoundError",
            r"404 Client Error",
            r"RevisionNotFoundError",
            r"Repository Not Found for url: (?P<url>\S+)",
        ),
        cause="The name or the revision does not exist, or the model is private and the token is not its owner's.",
        remedies=(
            "Correct model and revision.",
            "Set vllm_hf_token, if the model is private.",
        ),
        sources=("huggingface_hub/errors.py",),
        sample="huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error. (Request ID: Root=1-66e0f1a2)",
        near='(APIServer pid=801) INFO:     127.0.0.1:45678 - "GET /v1/model HTTP/1.1" 404 Not Found',
        explains=("model_files_missing",),
    ),
    Signature(
        id="hub_not_reached",
        area=AREA,
        title="The model is not on the host, and the hub is not asked or not reached",
        severity=FAIL,
        patterns=(
            r"LocalEntryNotFoundError",
            r"OfflineModeIsEnabled",
            r"Cannot reach \S+: offline mode is enabled",
            r"Cannot find an appropriate cached snapshot folder",
            r"outgoing traffic has been disabled",
            r"(?:NameResolutionError|Failed to resolve|Temporary failure in name resolution).*(?:huggingface|hf\.co)",
            r"We couldn't connect to '(?P<url>[^']+)' to load the files",
        ),
        cause="Instances are started offline (HF_HUB_OFFLINE=1) and read the cache, which lacks files of the model.",
        remedies=(
            "Run deploy.yml: the role model fetches what is missing before the instance starts.",
            "See whether model_hub_cache and HF_HUB_CACHE of the unit name the same folder.",
            "Over an instance that has to fetch by itself, see route and proxy, or "
            "set layout_hub_endpoint to a mirror.",
        ),
        sources=("huggingface_hub/errors.py", "vLLM engine/arg_utils.py:933"),
        sample="huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for "
        "the "
        "specified revision on the local disk and outgoing traffic has been disabled. To enable repo look-ups and "
        "downloads online, pass 'local_files_only=False' as input.",
        near="Warning: You are sending unauthenticated requests to the HF Hub. Please set a HF_TOKEN to enable higher "
        "rate limits and faster downloads.",
        explains=("model_files_missing", "dns_failed"),
    ),
    Signature(
        id="hub_not_there",
        area=AREA,
        title="The engine asks the hub itself, and does not reach it",
        severity=FAIL,
        patterns=(r"ConnectError: (?P<what>\[Errno -?\d+\] .+)$",),
        cause="The environment of the instance has it ask the hub (HF_HUB_OFFLINE=0), which it does not reach: {what}.",
        remedies=(
            "Leave HF_HUB_OFFLINE out of environment: the role model brings the files before the instance starts.",
            "Otherwise correct name resolution, proxy or HF_ENDPOINT in its environment.",
        ),
        sources=("httpx, ConnectError",),
        explains=("dns_failed",),
        sample="httpx2.ConnectError: [Errno -2] Name or service not known",
        near="httpx.ConnectError: All connection attempts failed",
    ),
    Signature(
        id="hub_refuses",
        area=AREA,
        title="The hub asks for patience",
        severity=FAIL,
        patterns=(r"429 Client Error|Too Many Requests",),
        cause="Too many requests came from this address.",
        remedies=("Set vllm_hf_token, which raises the limit.", "Wait, and run deploy.yml again."),
        sources=("huggingface.co/docs/hub/rate-limits",),
        sample="requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: "
        "https://huggingface.co/api/models/Qwen/Qwen3-32B/tree/main",
        near="huggingface_hub.errors.HfHubHTTPError: 503 Server Error: Service Temporarily Unavailable for url: "
        "https://huggingface.co/api/models/Qwen/Qwen3-32B/tree/main",
    ),
    Signature(
        id="remote_code",
        area=AREA,
        title="The model brings code of its own",
        severity=FAIL,
        patterns=(
            r"consider setting `trust_remote_code=True`",
            r"(?:set|pass|use|setting|passing|using)(?: the)?(?: argument| option| flag)? "
            r"`?(?:--)?trust[_-]remote[_-]code"
            r"(?:=True)?`? (?:to remove this error|in LLM|to allow)",
            r"requires you to execute the (?:configuration|modeling|tokenizer) file",
            r"contains custom code which must be executed",
        ),
        cause="config.json names classes that come with the model, and vLLM runs them only when it is told to.",
        remedies=(
            "Use a newer engine_version, if it knows the model by itself.",
            "Read that code, pin revision to the commit that was read, and set trust-remote-code: true in extra_args.",
        ),
        sources=("transformers_utils/config.py:405",),
        sample="RuntimeError: Failed to load the model config. If the model is a custom model not yet available in the "
        "HuggingFace transformers library, consider setting `trust_remote_code=True` in LLM or using the "
        "`--trust-remote-code` flag in the CLI.",
        near="(EngineCore pid=812) Initializing a V1 LLM engine (v0.15.1) with config: model='/srv/m', "
        "trust_remote_code=True, dtype=torch.bfloat16\n"
        "The argument `trust_remote_code` is to be used with Auto classes. It has no effect here and is ignored.",
    ),
    Signature(
        id="architecture_not_supported",
        area=AREA,
        title="vLLM does not know this kind of model",
        severity=FAIL,
        patterns=(
            r"Model architectures? \[?(?P<name>'?[\w', ]+'?)\]? (?:are|is) not supported",
            r"Model architecture (?P<name>\w+) was supported in vLLM until",
            r"model type `(?P<name>[\w-]+)` but Transformers does not recognize this architecture",
        ),
        cause="This release has no code for {name}.",
        remedies=(
            "Use a newer engine_version; or an older one, where the line says that it knew the model.",
            "Use another version of the model (a GGUF or bitsandbytes file needs a plugin of vLLM).",
        ),
        sources=("model_executor/models/registry.py:1178",),
        sample="  Value error, Model architectures ['FooForCausalLM'] are not supported for now. Supported "
        "architectures: "
        "dict_keys(['AfmoeForCausalLM', 'ApertusForCausalLM'])",
        near="(APIServer pid=801) INFO 11-23 20:31:07 [model.py:547] Resolved architecture: LlamaForCausalLM",
    ),
    Signature(
        id="quantization_named_wrong",
        area=AREA,
        title="quantization is not that of the model",
        severity=FAIL,
        patterns=(
            r"Quantization method specified in the model config \((?P<has>[\w-]+)\) does not match the quantization "
            r"method "
            r"specified in the `quantization` argument \((?P<asked>[\w-]+)\)",
            r"Unknown quantization method: (?P<asked>\S+)\.",
        ),
        cause="[[The model is {has}, and quantization says {asked}||vLLM does not know the quantization {asked}]].",
        remedies=("Leave quantization out: vLLM finds out by itself.",),
        sources=("config/model.py:1446",),
        sample="  Value error, Quantization method specified in the model config (gptq) does not match the "
        "quantization "
        "method specified in the `quantization` argument (awq).",
        near="INFO 09-24 15:46:11 gptq_marlin.py:108] The model is convertible to gptq_marlin during runtime. Using "
        "gptq_marlin kernel.",
    ),
    Signature(
        id="weights_damaged",
        area=AREA,
        title="A file of weights is cut or damaged",
        severity=FAIL,
        patterns=(
            r"SafetensorError: Error while deserializing header",
            r"safetensors_rust\.SafetensorError",
            r"version https://git-lfs\.github\.com",
            r"UnpicklingError",
        ),
        cause="A safetensors file does not hold what its header says: a copy that was cut short, a full disk, or a "
        "pointer "
        "of git-lfs in its place.",
        remedies=(
            "Compare the sizes of the files with those of the hub or of the source.",
            "Remove the file and run deploy.yml again, which fetches or copies it anew.",
            "See whether the disk is full or has errors (the kernel's log).",
        ),
        sources=("safetensors/src/tensor.rs",),
        sample="(Worker pid=815) ERROR 11-23 20:31:07 [multiproc_executor.py:871] safetensors_rust.SafetensorError: "
        "Error "
        "while deserializing header: incomplete metadata, file not fully covered",
        near="Loading safetensors checkpoint shards: 100% Completed | 4/4 [00:02<00:00,  1.61it/s]",
    ),
    Signature(
        id="model_files_missing",
        area=AREA,
        title="Files of the model are missing",
        severity=FAIL,
        patterns=(
            r"Invalid repository ID or local directory specified: '(?P<path>[^']+)'",
            r"Cannot find any model weights with `(?P<path>[^`]+)`",
            # a path that is not there is taken for a name of the hub
            r"HFValidationError: Repo id must be in the form .*?: '(?P<path>/[^']+)'",
            r"(?<!\S)(?P<path>\S{1,400}) does not appear to have a file named (?P<file>\S+)",
            r"FileNotFoundError: .*?'(?P<path>[^']+\.(?:safetensors|json|bin|model))'",
            r"No such file or directory: [\"']?(?P<path>\S+\.safetensors)",
            r"Following weights were not initialized from checkpoint",
        ),
        cause="[[{path}||{model_path}||The model]] is not there, cannot be read by the service's user, or is not "
        "whole.",
        remedies=(
            "See whether the path of model exists and holds config.json, the tokenizer and all safetensors files of "
            "its index.",
            "Let the service's user read it (the unit runs as vllm, with ProtectHome=read-only).",
            "Run deploy.yml again: it fetches or copies what is missing.",
        ),
        sources=("transformers_utils/config.py:849", "model_executor/model_loader/default_loader.py:260"),
        sample="  Value error, Invalid repository ID or local directory specified: '/srv/models/llama'.\n"
        "(Worker pid=815) ERROR 11-23 20:31:07 [multiproc_executor.py:871] RuntimeError: Cannot find any model weights "
        "with "
        "`/srv/models/llama`",
        near="FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
    ),
    Signature(
        id="tokenizer_missing",
        area=AREA,
        title="The tokenizer cannot be loaded",
        severity=FAIL,
        patterns=(
            r"Couldn't instantiate the backend tokenizer",
            r"Can't load tokenizer for '(?P<path>[^']+)'",
            r"Unable to load vocabulary from file",
            r"Failed to load the tokenizer",
            r"Tokenizer class \S+ does not exist or is not currently imported",
        ),
        cause="The folder of the model has no tokenizer that transformers can read.",
        remedies=(
            "Copy tokenizer.json and tokenizer_config.json of the model into its folder.",
            "Name the tokenizer of the original model in extra_args (tokenizer), if this is a conversion.",
        ),
        sources=("transformers/tokenization_utils_base.py",),
        sample="ValueError: Couldn't instantiate the backend tokenizer from one of:\n"
        "OSError: Can't load tokenizer for '/srv/models/llama'. If you were trying to load it from "
        "'https://huggingface.co/models', make sure you don't have a local directory with the same name.",
        near="WARNING 11-23 20:31:07 [tokenizer.py:251] Using a slow tokenizer. This might cause a significant "
        "slowdown. Consider using a fast tokenizer instead.",
    ),
    Signature(
        id="no_chat_template",
        area=AREA,
        title="The model has no chat template",
        severity=WARN,
        patterns=(
            r"default chat template is no longer allowed, so you must provide a chat template",
            r"Cannot use chat template functions because tokenizer\.chat_template is not set",
        ),
        cause="A chat request came for a model whose tokenizer has no template: a base model, or a folder without "
        "chat_template.jinja.",
        remedies=(
            "Use the instruct version of the model, or copy chat_template.jinja of the model into its folder.",
            "Give a template in extra_args (chat-template: a path on the host).",
            "Ask /v1/completions in its place.",
        ),
        sources=("renderers/hf.py:798",),
        sample="ValueError: As of transformers v4.44, default chat template is no longer allowed, so you must provide "
        "a chat "
        "template if the tokenizer does not define one.",
        near="(APIServer pid=801) INFO 11-23 20:31:07 [chat_utils.py:546] Detected the chat template content format to"
        " be 'string'. You can set `--chat-template-content-format` to override this.",
    ),
)
