import sys
from functools import partial
from benchmarks.reliability_faults import learn, GoGePo

if __name__ == "__main__":
    learn(GoGePo, 10**6, step_s=float(sys.argv[2]), rollout_backend=sys.argv[1], rollout_workers=2)
