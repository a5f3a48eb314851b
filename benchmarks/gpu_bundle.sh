#!/usr/bin/env bash
# Gather in .gpu/ what a machine with a GPU, Python 3.12, torch and transformers, and without a network, lacks for
# benchmarks/gpu_run.sh: wheels (about 25 MB) and the tokenizer of Mistral 7B. Run from the project's root; `make
# gpu-bundle` does.
set -euo pipefail
python=${PYTHON:-.venv/bin/python}
rm -rf .gpu
mkdir -p .gpu/wheels .gpu/tokenizer
platforms=()
for version in 2_34 2_31 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${version}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64)
download() {
    "$python" -m pip --disable-pip-version-check download -q --only-binary=:all: --python-version 3.12 --implementation cp \
        "${platforms[@]}" -c constraints/ci.txt -d .gpu/wheels "$@"
}
# Ours, alone: what they need is there, or is named below.
download --no-deps llguidance jsonschema jsonschema-specifications referencing rpds-py typer rich markdown-it-py mdurl pygments shellingham annotated-doc
# The frameworks, with all that they need: the demo runs an agent of each.
download langchain langchain-core llama-index-core llama-index-workflows pydantic
# What is there already in a version that goes with its torch: a second one would hide it.
for name in torch triton numpy pillow networkx setuptools pyyaml regex fsspec packaging urllib3 jinja2 certifi tqdm requests idna markupsafe filelock sympy mpmath; do
    rm -f .gpu/wheels/"$name"-*
done
rm -f .gpu/wheels/nvidia_* .gpu/wheels/cuda_*
"$python" -c 'from tests.support.mistral import load_mistral_tokenizer; load_mistral_tokenizer().save_pretrained(".gpu/tokenizer")'
du -sh .gpu
