#!/usr/bin/env bash
# Run benchmarks.gpu_check from a bare start, with what benchmarks/gpu_bundle.sh gathered:
#     benchmarks/gpu_run.sh FOLDER MINUTES [options of gpu_check]
# Figures are written to FOLDER as they come. Run from the project's root; PYTHON and BUNDLE name others than python3 and
# .gpu.
set -euo pipefail
out=$1 minutes=$2
shift 2
python=${PYTHON:-python3} bundle=${BUNDLE:-.gpu} site=$(mktemp -d)
if compgen -G "$bundle/wheels/*.whl" >/dev/null; then
    "$python" -m pip --disable-pip-version-check install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$bundle"/wheels/*.whl
fi
tokenizer=()
[ ! -d "$bundle/tokenizer" ] || tokenizer=(--tokenizer "$bundle/tokenizer")
export PYTHONPATH="$site:$PWD" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "$python" -m benchmarks.gpu_check --json "$out/gpu_check.json" --minutes "$minutes" "${tokenizer[@]}" "$@"
