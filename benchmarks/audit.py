"""pip-audit where it can run: known holes in the installed packages fail; no network or no pip-audit is said, and passes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

#: what pip-audit says when it cannot reach its source
OFFLINE = ("ConnectionError", "Failed to establish", "Max retries", "ServiceError", "Temporary failure", "timed out")


def main() -> int:
    if importlib.util.find_spec("pip_audit") is None:
        print("pip-audit: skipped, it is not installed")
        return 0
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--timeout", "15"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        print("pip-audit: skipped, no answer")
        return 0
    if result.returncode == 0:
        print("pip-audit: no known holes")
        return 0
    if not result.stdout.strip() and any(sign in result.stderr for sign in OFFLINE):
        print("pip-audit: skipped, its database cannot be reached")
        return 0
    print(result.stdout, result.stderr, sep="\n")
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
