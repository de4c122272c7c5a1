#!/bin/bash
# All GPU measurements within a number of seconds, what RESULTS.md calls missing first. Run it from the project's root:
#
#   bash benchmarks/gpu.sh GLUE MODEL OUT [SECONDS]
#
# GLUE holds RTE and STS-B, MODEL is MiniLM's folder. All programs are compiled first, side by side (PyTorch's into its own
# cache, ours into $JAXFREEZE_CACHE); then one measurement follows the other, alone on the GPU. Each has a limit of its own,
# so that one that fails costs no other. Output goes to OUT as it comes; a line for each part is printed.
GLUE=$(realpath "$1") MODEL=$(realpath "$2") OUT=$3 END=$((SECONDS + ${4:-480}))
mkdir -p "$OUT"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export JAXFREEZE_CACHE=${JAXFREEZE_CACHE:-/tmp/jaxfreeze} TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-/tmp/inductor}
export TORCHINDUCTOR_COMPILE_THREADS=2
export XLA_FLAGS="--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false --xla_gpu_experimental_enable_fusion_autotuner=false"

part() { # name, most seconds, command ...
  local name=$1 limit=$2 left=$((END - SECONDS)) began=$SECONDS
  shift 2
  if [ $left -lt 6 ]; then echo "$name: no time left"; return; fi
  timeout -k 3 $((limit < left ? limit : left)) "$@" > "$OUT/$name.json" 2> "$OUT/$name.err"
  echo "$name: exit code $? after $((SECONDS - began)) s, at $SECONDS s"
}

steps="python3 benchmarks/gpu.py"
part torch-3-16 150 $steps --only pytorch --rounds 0 --depths 3 --batch_sizes 16 &
part graphs-3-16 150 $steps --only pytorch_graphs --rounds 0 --depths 3 --batch_sizes 16 &
part torch-1-16 150 $steps --only pytorch --rounds 0 --depths 1 --batch_sizes 16 &
part torch-all-16 150 $steps --only pytorch --rounds 0 --depths all --batch_sizes 16 &
part torch-128 150 $steps --only pytorch --rounds 0 --depths 3 all --batch_sizes 128 &
part jax-1-3-16 150 $steps --only cached --rounds 0 --depths 1 3 --batch_sizes 16 --shapes 4 &
part jax-3-128 150 $steps --only cached uncached --rounds 0 --depths 3 --batch_sizes 128 --shapes 2 &
part jax-all 150 $steps --only uncached --rounds 0 --depths all --batch_sizes 128 16 --shapes 2 &
part right 150 python3 benchmarks/gpu_right.py --data_dir "$GLUE" --model "$MODEL" --max_steps 120 &
wait
part 3-16 60 $steps --depths 3 --batch_sizes 16 --only cached pytorch --shapes 4
part 1-16 50 $steps --depths 1 --batch_sizes 16 --only cached pytorch --shapes 4
part sweep 130 python3 benchmarks/gpu_sweep.py --data_dir "$GLUE" --model "$MODEL" --limit 65
part all-128 40 $steps --depths all --batch_sizes 128 --only uncached pytorch --shapes 2
part profile 40 python3 benchmarks/gpu_profile.py --output "$OUT" --depths 3 --sizes 16 --shapes 4
part all-16 60 $steps --depths all --batch_sizes 16 --only uncached pytorch --shapes 2
part graphs-3-16 60 $steps --depths 3 --batch_sizes 16 --only pytorch_graphs
part 3-128 45 $steps --depths 3 --batch_sizes 128 --only cached uncached pytorch --shapes 2
part profile-128 50 python3 benchmarks/gpu_profile.py --output "$OUT" --depths 3 all --sizes 128 --shapes 2 --skip trunk ceilings
XLA_FLAGS="" part defaults 120 $steps --only cached --depths 3 --batch_sizes 16 --shapes 1
part no-tuning 40 $steps --only cached --depths 3 --batch_sizes 16 --shapes 1
