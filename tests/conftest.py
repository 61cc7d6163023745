"""Make ansible_collections.gpufleet.vllm importable from a clone anywhere."""

from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader([str(Path(__file__).parent.parent / ".collections")])
